// Dark where the reader's system is. It runs before the page is drawn.
const preference = matchMedia("(prefers-color-scheme: dark)");
const apply = () => document.documentElement.classList.toggle("dark-mode", preference.matches);
preference.addEventListener("change", apply);
apply();
