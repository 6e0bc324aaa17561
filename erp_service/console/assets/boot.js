// Starts the console, and says so if it cannot. During a roll this page may come from a new instance and a file from an
// old one, which does not have it: after a moment the balancer gives both from the same one.
const TRIES = "erp.console.tries";

async function start() {
  try {
    const app = await import("./app.js");
    await app.start();
    sessionStorage.removeItem(TRIES);
  } catch (error) {
    const tries = Number(sessionStorage.getItem(TRIES) ?? 0) + 1;
    sessionStorage.setItem(TRIES, String(tries));
    const notice = document.createElement("p");
    notice.className = "boot";
    notice.setAttribute("role", "alert");
    notice.textContent = tries > 10 ? `The console cannot start: ${error}` : "Loading …";
    document.getElementById("app").replaceChildren(notice);
    if (tries <= 10) {
      setTimeout(() => location.reload(), 300 * tries);
    } else {
      sessionStorage.removeItem(TRIES);
    }
  }
}

start();
