// The theme that was chosen in the console, before anything is seen.
try {
  const theme = localStorage.getItem("erp.console.theme");
  document.documentElement.dataset.theme = theme === "light" || theme === "dark" ? theme : "system";
} catch {
  // a browser that keeps nothing: the system's theme
}
