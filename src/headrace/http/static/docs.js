// The vendored viewer, without anything that would ask another host.
addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("viewer");
  place.replaceChildren();
  const themed = () => document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.theme === "dark");
  document.addEventListener("headrace:theme", themed);
  themed();
  SwaggerUIBundle({
    domNode: place,
    url: place.dataset.document,
    validatorUrl: null,
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    syntaxHighlight: { activated: true, theme: "nord" },
  });
});
