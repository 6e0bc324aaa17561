// /docs: Swagger UI with our sign-in, and our search.

const base = document.documentElement.dataset.base;

// what the last refused sign-in said
let refusal = "";

function remember(answer) {
  if (answer.url && new URL(answer.url, location).pathname.endsWith("/api/v1/auth/login")) {
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

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

// What the search finds: endpoints with each word in method, path, name, tag, summary or description.
function opsFilter(tagged, phrase) {
  const words = wordsOf(phrase);
  const isFound = (tag) => (each) => {
    const operation = each.get("operation");
    const texts = ["operationId", "summary", "description"].map((name) => operation.get(name) ?? "");
    const text = [tag, each.get("method"), each.get("path"), ...texts].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return tagged.map((group, tag) => group.update("operations", (all) => all.filter(isFound(tag))))
    .filter((group) => group.get("operations").size > 0);
}

// An element of Swagger UI, and what is amended in it each time that it was drawn.
const amended = (selector, amend) => (Original, {React}) => (properties) => {
  const place = React.useRef();
  React.useEffect(() => place.current.querySelectorAll(selector).forEach(amend));
  return React.createElement("div", {ref: place}, React.createElement(Original, properties));
};

const ErpPlugin = () => ({
  fn: {opsFilter},
  wrapComponents: {
    oauth2: signIn,
    // our search and this one host stand in their place
    FilterContainer: () => () => null,
    ServersContainer: () => () => null,
    // a link inside a button, and a name of the button that is not what it shows
    DeepLink: (Original, {React}) => (properties) =>
      React.createElement(properties.path.includes("/") ? "span" : Original, properties.path.includes("/") ? null : properties, properties.text),
    OperationSummary: amended(".opblock-summary-control", (button) => button.removeAttribute("aria-label")),
    authorizationPopup: amended(".close-modal", (button) => button.setAttribute("aria-label", "Close")),
  },
  statePlugins: {
    auth: {wrapSelectors: {definitionsToAuthorize: (original) => (...all) =>
      original(...all).map((definition) => definition.filter(typed)).filter((definition) => definition.size)}},
    err: {wrapActions: {newAuthErr: (original) => (error) =>
      original({...error, message: refusal || `The service does not answer (${error.message}). Try again.`})}},
  },
});

window.ui = SwaggerUIBundle({url: `${base}/schema/openapi.json`, dom_id: "#swagger", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, tryItOutEnabled: true, docExpansion: "list", syntaxHighlight: false, plugins: [ErpPlugin],
  responseInterceptor: remember, onComplete: search});

const box = document.getElementById("q");

function search() {
  const words = box.value.trim();
  ui.layoutActions.updateFilter(words);
  const groups = ui.specSelectors.taggedOperations().valueSeq();
  const count = groups.reduce((sum, group) => sum + group.get("operations").size, 0);
  document.getElementById("count").textContent = words ? `${count} ${count === 1 ? "endpoint" : "endpoints"} found` : "";
  document.getElementById("swagger").classList.toggle("searched", words !== "");
  document.getElementById("none").hidden = count > 0;
}

let waiting;
box.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(search, 150);
});
box.form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
