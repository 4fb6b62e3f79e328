// Where callers are asked who they are, the document is refused to nobody in particular: ask for a token, and try again.
// The token stays in this page's memory.
let token = "";

function credential() {
  return token ? { Authorization: token.includes(" ") ? token : `Bearer ${token}` } : {};
}

function show(document_) {
  window.ui = SwaggerUIBundle({
    spec: document_,
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
  const message = document.getElementById("message");
  const answer = await fetch("openapi.json", { headers: credential() });
  const content = await answer.json();
  document.getElementById("credential").hidden = answer.ok;
  message.textContent = answer.ok ? "" : content.detail;
  if (answer.ok) show(content);
}

document.getElementById("credential").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  load();
});
load();
