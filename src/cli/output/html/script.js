'use strict';
(() => {
  const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);

  // Stores the chosen view and colors, if the browser allows it.
  const storage = (() => { try { return window.localStorage; } catch { return null; } })();
  each('.controls input', (input) => {
    const key = 'yizhai-' + input.name;
    if (storage && storage.getItem(key) === input.value) input.checked = true;
    input.addEventListener('change', () => { if (storage) storage.setItem(key, input.value); });
  });

  // Highlights the counterparts of the number, term or summary sentence that is hovered or focused.
  const partners = (element) => {
    if (element.classList.contains('k')) {
      return element.closest('.pair').querySelectorAll('.k[data-k="' + element.dataset.k + '"]');
    }
    const ids = element.dataset.from.split(' ').filter(Boolean);
    return [element, ...ids.map((id) => document.getElementById(id)).filter(Boolean)];
  };
  const show = (event, on) => {
    if (!(event.target instanceof Element)) return;
    let element = event.target.closest('.k, .sum');
    const ref = event.target.closest('.ref');
    if (ref) {
      element = ref.closest('sup');
      while (element && !element.classList.contains('sum')) element = element.previousElementSibling;
    }
    if (element) partners(element).forEach((partner) => partner.classList.toggle('on', on));
  };
  for (const [type, on] of [['pointerover', true], ['pointerout', false], ['focusin', true], ['focusout', false]]) {
    document.addEventListener(type, (event) => show(event, on));
  }

  // Each paragraph is one tab stop; the arrow keys move between its links.
  each('.pair', (pair) => {
    const links = [...pair.querySelectorAll('.k')];
    links.forEach((link, index) => { link.tabIndex = index === 0 ? 0 : -1; });
    pair.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const at = links.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = links[(at + step + links.length) % links.length];
      links.forEach((link) => { link.tabIndex = link === next ? 0 : -1; });
      next.focus();
    });
  });

  // A link to a counterpart moves the focus without adding a history entry.
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element && event.target.closest('.k');
    const to = link && document.getElementById(link.hash.slice(1));
    if (!to || to.offsetParent === null) return;
    event.preventDefault();
    to.scrollIntoView({ block: 'nearest' });
    to.focus({ preventScroll: true });
  });

  // The table of contents marks the current position, and is collapsed on small screens.
  const contents = document.querySelector('.toc details');
  if (contents) {
    if (window.matchMedia('(max-width: 62rem)').matches) contents.open = false;
    const links = new Map([...document.querySelectorAll('.toc a')].map((a) => [a.hash.slice(1), a]));
    const visible = new Set();
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) visible.add(target.id); else visible.delete(target.id);
      }
      const current = [...links.keys()].filter((id) => visible.has(id)).pop();
      for (const [id, link] of links) {
        if (id === current) link.setAttribute('aria-current', 'true'); else link.removeAttribute('aria-current');
      }
    }, { rootMargin: '0px 0px -75% 0px' });
    for (const id of links.keys()) {
      const target = document.getElementById(id);
      if (target) observer.observe(target);
    }
  }

  // The search of the index shows items that contain every word, ignoring case.
  const query = document.getElementById('q');
  if (query) {
    const noun = ' ' + (query.dataset.noun || 'pages');
    const only = document.getElementById('only');
    const count = document.getElementById('count');
    const items = [...document.querySelectorAll('.item')].map((element) => ({
      element, text: element.textContent.toLowerCase(), look: 'look' in element.dataset,
    }));
    const search = () => {
      const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { element, text, look } of items) {
        const wanted = (!only.checked || look) && words.every((word) => text.includes(word));
        element.hidden = !wanted;
        shown += wanted;
      }
      count.textContent = shown === items.length ? items.length + noun : shown + ' of ' + items.length + noun;
    };
    query.addEventListener('input', search);
    only.addEventListener('change', search);
    search();
  }
})();
