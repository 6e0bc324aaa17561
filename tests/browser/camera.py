"""QR codes that the console draws, and a reader of them."""

from zxingcpp import BarcodeFormat, BarcodeFormats, read_barcodes

from tests.browser.console_page import ConsolePage


def read_by_a_camera(page: ConsolePage, selector: str) -> str:
    """What a reader finds in a drawing, as the page paints it."""
    paint = """const [selector, side, done] = arguments
    const image = new Image()
    image.onload = () => {
      const canvas = new OffscreenCanvas(side, side).getContext("2d")
      canvas.drawImage(image, 0, 0, side, side)
      done([...canvas.getImageData(0, 0, side, side).data].filter((_, index) => index % 4 === 0))
    }
    const drawn = new XMLSerializer().serializeToString(document.querySelector(selector))
    image.src = `data:image/svg+xml,${encodeURIComponent(drawn)}`"""
    side = 65 * 3
    pixels = bytes(page.chrome.execute_async_script(paint, selector, side))
    (found,) = read_barcodes(memoryview(pixels).cast("B", (side, side)), BarcodeFormats([BarcodeFormat.QRCode]))
    return found.text


def draw_codes(page: ConsolePage, url: str, *texts: str) -> None:
    """By the console's own module, which `url` serves."""
    draw = """const [url, texts, done] = arguments
    import(url).then(({ qrCode }) => done(texts.forEach((text, index) => {
      const place = document.createElement("p")
      place.className = `drawn-${index}`
      place.append(qrCode(text, ""))
      document.body.append(place)
    })))"""
    page.chrome.execute_async_script(draw, url, texts)
