// Looks at an output directory of `yizhai digest --format html` as a reader would, in headless Chromium.
//
//   node run.mjs DIR [PICTURES]     CHROMIUM names the browser [/usr/bin/chromium]
//
// Fails at the first thing that is wrong: an error on the console, a request to anywhere, a dead link, a column that
// does not fit, a search that does not find, a violation that axe-core knows.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const directory = resolve(process.argv[2]);
const pictures = process.argv[3] && resolve(process.argv[3]);
if (pictures) mkdirSync(pictures, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [1280, 390];
let passed = 0;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});

async function open(file, width, colorScheme = 'light') {
  // axe is brought in from outside, which the page's own policy rightly forbids.
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  const page = await context.newPage();
  page.on('console', (message) => assert.notEqual(message.type(), 'error', `${file}: ${message.text()}`));
  page.on('pageerror', (error) => assert.fail(`${file}: ${error}`));
  page.on('request', (request) => assert.ok(request.url().startsWith('file:'), `${file} asks for ${request.url()}`));
  await page.goto(pathToFileURL(file).href);
  return page;
}

async function check(name, act) {
  await act();
  passed += 1;
  console.log(`ok ${name}`);
}

async function accessible(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  const told = violations.map((v) => `${v.id}: ${v.help}\n  ${v.nodes.slice(0, 5).map((n) => n.html + '\n    ' + n.failureSummary).join('\n  ')}`);
  assert.equal(violations.length, 0, `${name}\n${told.join('\n')}`);
}

async function fits(page, name) {
  const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(scroll <= inner, `${name}: ${scroll} pixels wide in a window of ${inner}`);
}

const picture = async (page, name, fullPage = false) => {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage });
};

// ---- the index ----
const index = join(directory, 'index.html');
let pages = [];
for (const width of WIDTHS) {
  for (const scheme of ['light', 'dark']) {
    await check(`index at ${width}, ${scheme}: fits, is accessible`, async () => {
      const page = await open(index, width, scheme);
      await fits(page, 'index');
      await accessible(page, 'index');
      await picture(page, `index-${width}-${scheme}`);
      await page.context().close();
    });
  }
}
await check('index: every link leads somewhere', async () => {
  const page = await open(index, 1280);
  const links = await page.$$eval('a[href]', (all) => all.map((a) => a.href));
  pages = [...new Set(links.map((link) => link.split('#')[0]))].filter((link) => !link.endsWith('/index.html'));
  assert.ok(pages.length > 0, 'no pages are listed');
  for (const link of links) {
    const url = new URL(link);
    const html = readFileSync(url, 'utf8');
    const id = decodeURIComponent(url.hash.slice(1));
    assert.ok(!id || html.includes(`id="${id}"`), `${link} leads to nothing`);
  }
  await page.context().close();
});
await check('index: the search finds and says how many', async () => {
  const page = await open(index, 1280);
  const shown = () => page.$$eval('.item', (items) => items.filter((item) => item.offsetParent !== null).length);
  const all = await shown();
  const word = await page.$eval('.headlines a', (a) => a.textContent.trim().slice(0, 4));
  await page.fill('#q', word);
  const found = await shown();
  assert.ok(found >= 1 && found <= all);
  await page.fill('#q', word + ' 没有这样的词');
  assert.equal(await shown(), 0);
  assert.match(await page.textContent('#count'), new RegExp(`^0 of ${all} pages`));
  await page.fill('#q', '');
  assert.equal(await shown(), all);
  await page.check('#only');
  assert.equal(await shown(), await page.$$eval('.item[data-look]', (items) => items.length));
  await page.context().close();
});

// ---- every page ----
for (const [number, url] of pages.entries()) {
  const file = fileURLToPath(url);
  const name = file.slice(directory.length + 1);
  for (const width of WIDTHS) {
    for (const scheme of ['light', 'dark']) {
      await check(`${name} at ${width}, ${scheme}: fits, is accessible`, async () => {
        const page = await open(file, width, scheme);
        await fits(page, name);
        await accessible(page, name);
        await picture(page, `page-${number}-${width}-${scheme}`);
        if (scheme === 'light') await picture(page, `page-${number}-${width}-whole`, true);
        await page.context().close();
      });
    }
  }
  await check(`${name}: side by side at 1280, one under the other at 390`, async () => {
    for (const width of WIDTHS) {
      const page = await open(file, width);
      const boxes = await page.$$eval('.pair:not(.alone)', (pairs) => pairs.map((pair) => {
        const [zh, en] = [pair.querySelector('.zh'), pair.querySelector('.en')].map((e) => e.getBoundingClientRect());
        return { beside: zh.right <= en.left && Math.abs(zh.top - en.top) < 8, below: zh.bottom <= en.top };
      }));
      assert.ok(boxes.every((box) => (width === 1280 ? box.beside : box.below)), `${name} at ${width}`);
      await page.context().close();
    }
  });
  await check(`${name}: links, languages, and what hovering shows`, async () => {
    const page = await open(file, 1280);
    const dead = await page.$$eval('a[href^="#"]', (all) => all.filter((a) => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).map((a) => a.outerHTML));
    assert.deepEqual(dead, []);
    const back = await page.$eval('.brand a', (a) => a.href);
    readFileSync(new URL(back));
    const wrong = await page.$$eval('.pair .zh, .summary > p:not(.finding), article h2[lang]', (all) => all.filter((e) => !e.lang.startsWith('zh')).map((e) => e.outerHTML.slice(0, 80)));
    assert.deepEqual(wrong, []);
    const link = await page.$('.pair .zh .k');
    if (link) {
      await link.hover();
      const on = await page.$$eval('.k.on', (all) => all.map((k) => !!k.closest('.en')));
      assert.ok(on.includes(true) && on.includes(false), 'hovering lights both languages');
      await picture(page, `page-${number}-hover`);
      await page.keyboard.press('Escape');
      await link.click();
      assert.ok(await page.evaluate(() => !!document.activeElement.closest('.en')), 'the link leads to the other language');
      const count = await page.$$eval('.pair', (pairs) => Math.max(...pairs.map((pair) => pair.querySelectorAll('.k[tabindex="0"]').length)));
      assert.equal(count, 1, 'one stop of the tab key a paragraph');
    }
    const sentence = await page.$('.sum[data-from]:not([data-from=""])');
    if (sentence) {
      await sentence.hover();
      assert.ok((await page.$$('.src.on')).length > 0, 'a sentence of a summary shows what it rests on');
    }
    await page.context().close();
  });
  await check(`${name}: one language alone, and print`, async () => {
    const page = await open(file, 1280);
    const seen = (selector) => page.$$eval(selector, (all) => all.some((e) => e.offsetParent !== null));
    if (await page.$('#v-en')) {
      await page.check('#v-en');
      assert.ok(!(await seen('.pair .zh')) && await seen('.pair .en'));
      await page.check('#v-zh');
      assert.ok(await seen('.pair .zh') && !(await seen('.pair .en')));
      await page.check('#v-both');
    }
    await page.emulateMedia({ media: 'print' });
    assert.ok(!(await seen('.toc')) && !(await seen('.controls')));
    await page.context().close();
  });
}
await browser.close();
console.log(`${passed} passed, 0 failed`);
// What is beside the pages is whole as well.
assert.ok(readdirSync(directory).includes('run.json'));
