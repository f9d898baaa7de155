// Small repairs to what the theme and docutils leave to be desired; each line was found by axe-core.
(function () {
  "use strict";
  const each = (selector, repair) => document.querySelectorAll(selector).forEach(repair);

  function repairNames() {
    // A visible text must be part of the accessible name: drop the label that hides it (the theme sets it twice).
    each(".search-button-field[aria-label], .theme-switch-button[aria-label]", (button) => {
      if (button.textContent.trim()) button.removeAttribute("aria-label");
    });
    each(".bd-sidebar-primary", (sidebar) => {
      sidebar.setAttribute("role", "complementary");
      sidebar.setAttribute("aria-label", "Book");
    });
    each(".citation-list", (list) => {
      list.querySelectorAll(":scope > .citation").forEach((item) => item.setAttribute("role", "listitem"));
    });
    // What scrolls sideways must be reachable by keyboard.
    each("div.highlight pre, .pst-scrollable-table-container, article table", (box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
    });
  }

  document.addEventListener("DOMContentLoaded", repairNames);
  window.addEventListener("load", () => { repairNames(); setTimeout(repairNames, 500); });
  window.addEventListener("resize", repairNames);
})();
