// Where callers are asked who they are, the document is refused to strangers: ask for a token, or lead them to the login.
// A token stays in this page's memory. Who is logged in has a cookie, and a page sends its own token beside it.
let token = "";
let session = null;

function credential() {
  if (token) return { Authorization: token.includes(" ") ? token : `Bearer ${token}` };
  return session ? { "X-CSRF-Token": session.csrf_token } : {};
}

function show(spec) {
  window.ui = SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    tryItOutEnabled: true,
    requestInterceptor(request) {
      request.headers = { ...credential(), ...request.headers };
      return request;
    },
  });
}

async function load() {
  const answer = await fetch("openapi.json", { headers: credential() });
  const content = await answer.json();
  document.getElementById("credential").hidden = answer.ok;
  document.getElementById("message").textContent = answer.ok ? "" : content.detail;
  if (answer.ok) show(content);
  return !answer.ok || "securitySchemes" in content.components;
}

async function start() {
  const isGuarded = await load();
  const answer = isGuarded ? await fetch("auth/session") : null;
  if (answer?.ok) session = await answer.json();
  document.getElementById("login").hidden = answer?.status !== 401;
  document.getElementById("login").href = "auth/login"; // which leads back here
}

document.getElementById("credential").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  load();
});
start();
