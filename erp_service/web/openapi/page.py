"""The page at /docs, which shows the document with no network."""

from pathlib import Path

import litestar_offline_docs
from litestar import MediaType, Router
from litestar.static_files import create_static_files_router

from erp_service.access.scopes import Keys
from erp_service.web.openapi.config import PUBLIC_OPT
from erp_service.web.responses import ApiResponse, html_page
from erp_service.web.routing import PUBLIC, get

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>erp_service API</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
<style>
.scope-def, .info__license { display: none }
.auth-container label { display: block; margin-bottom: .2em }
</style></head>
<body><div id="swagger"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script>
// what the last refused sign-in said
let refusal = "";

function remember(answer) {
  if (answer.url && new URL(answer.url, location).pathname === "/api/v1/auth/login") {
    refusal = "";
    if (!answer.ok) {
      try {
        const problem = JSON.parse(answer.text);
        refusal = [problem.title, problem.detail].filter(Boolean).join(". ");
      } catch { refusal = ""; }
    }
  }
  return answer;
}

// After the field for API keys, which takes the focus for itself. React calls it once, since it is always the same.
const takeFocus = (input) => input && setTimeout(() => input.focus());

// In place of the form for client ids, secrets and scopes, none of which there are here.
function signIn(_original, {React}) {
  const part = React.createElement;
  return function SignIn({schema, name, authActions, authSelectors, errActions, errSelectors}) {
    const signedIn = Boolean(authSelectors.authorized().get(name));
    const refused = errSelectors.allErrors().filter((error) => error.get("authId") === name);
    const submit = (event) => {
      event.preventDefault();
      const form = new FormData(event.target);
      errActions.clear({authId: name, type: "auth", source: "auth"});
      refusal = "";
      authActions.authorizePassword({
        schema, name, username: form.get("username"), password: form.get("password"), passwordType: "request-body",
        clientId: "", clientSecret: "", scopes: [],
      });
    };
    const logOut = () => authActions.logoutWithPersistOption([name]);
    const close = () => authActions.showDefinitions(false);
    const button = (text, kind, onClick) =>
      part("button", {type: onClick ? "button" : "submit", className: `btn modal-btn auth ${kind}`, onClick}, text);
    const field = (label, id, more) => part("div", {className: "wrapper", key: id},
      part("label", {htmlFor: id}, label), part("input", {id, required: true, ...more}));
    return part("form", {onSubmit: submit},
      part("h4", null, signedIn ? "You are signed in" : "Sign in with your e-mail and password"),
      signedIn ? null : field("E-mail", "oauth_username",
        {name: "username", type: "text", inputMode: "email", autoComplete: "username", ref: takeFocus}),
      signedIn ? null : field("Password", "oauth_password",
        {name: "password", type: "password", autoComplete: "current-password"}),
      signedIn ? null : refused.valueSeq().map((error, index) =>
        part("div", {className: "errors", role: "alert", key: index}, part("p", null, error.get("message")))).toArray(),
      part("div", {className: "auth-btn-wrapper"},
        signedIn ? button("Logout", "", logOut) : button("Authorize", "authorize"),
        button("Close", "btn-done", close)));
  };
}

// The signature is a part of an address that the service makes: nobody types it.
const typed = (scheme) => scheme.get("type") !== "apiKey" || scheme.get("in") !== "query";

const ErpPlugin = () => ({
  wrapComponents: {oauth2: signIn},
  statePlugins: {
    auth: {wrapSelectors: {definitionsToAuthorize: (original) => (...all) =>
      original(...all).map((definition) => definition.filter(typed)).filter((definition) => definition.size)}},
    err: {wrapActions: {newAuthErr: (original) => (error) =>
      original({...error, message: refusal || `The service does not answer (${error.message}). Try again.`})}},
  },
});

window.ui = SwaggerUIBundle({url: "/schema/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, tryItOutEnabled: true, docExpansion: "list", plugins: [ErpPlugin],
  responseInterceptor: remember});
</script></body></html>"""


@get("/docs", role=PUBLIC, scope=Keys.NONE, include_in_schema=False, media_type=MediaType.HTML)
async def page() -> ApiResponse[str]:
    """`validatorUrl` is null, or Swagger UI would load an image from its makers' server."""
    return html_page(_PAGE, style_attributes=True)


ROUTES = [page]


def static_files() -> Router:
    """Swagger UI from a Python package, so that the page needs no network."""
    scripts = Path(litestar_offline_docs.__file__).parent / "static"
    return create_static_files_router(
        path="/docs/static", directories=[scripts], include_in_schema=False, opt=PUBLIC_OPT, name="docs-static"
    )
