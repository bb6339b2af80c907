// Light or dark, before anything is painted: what was chosen here, else what the system prefers.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const key = "headrace-theme";
  const chosen = () => {
    try { return localStorage.getItem(key); } catch { return null; }
  };
  const apply = () => {
    root.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    const name = document.getElementById("theme-name");
    if (name) name.textContent = root.dataset.theme === "dark" ? "Use light colours" : "Use dark colours";
    document.dispatchEvent(new Event("headrace:theme"));
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      // Choosing what the system prefers is following the system again.
      const same = next === (system.matches ? "dark" : "light");
      try { same ? localStorage.removeItem(key) : localStorage.setItem(key, next); } catch { root.dataset.theme = next; }
      apply();
    });
    apply();
  });
})();
