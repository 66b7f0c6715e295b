// Opens the output directory of `yizhai digest --format html` and the report of `yizhai eval --html` in headless Chromium
// and checks them.
//
//   node run.mjs DIR EVALUATION [SCREENSHOTS]     CHROMIUM sets the path of the browser [/usr/bin/chromium]
//
// Stops at the first failure: an error on the console, a network request, a dead link, a page wider than the window, a
// search without results, or an accessibility violation that axe-core finds.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const directory = resolve(process.argv[2]);
const evaluation = resolve(process.argv[3]);
const screenshots = process.argv[4] && resolve(process.argv[4]);
if (screenshots) mkdirSync(screenshots, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [1280, 390];
let passed = 0;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});

async function open(file, width, colorScheme = 'light') {
  // The page's content security policy forbids injected scripts such as axe.
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  const page = await context.newPage();
  page.on('console', (message) => assert.notEqual(message.type(), 'error', `${file}: ${message.text()}`));
  page.on('pageerror', (error) => assert.fail(`${file}: ${error}`));
  page.on('request', (request) => assert.ok(request.url().startsWith('file:'), `${file} requests ${request.url()}`));
  await page.goto(pathToFileURL(file).href);
  return page;
}

async function check(name, run) {
  await run();
  passed += 1;
  console.log(`ok ${name}`);
}

async function assertAccessible(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  const report = violations.map((v) => `${v.id}: ${v.help}\n  ${v.nodes.slice(0, 5).map((n) => n.html + '\n    ' + n.failureSummary).join('\n  ')}`);
  assert.equal(violations.length, 0, `${name}\n${report.join('\n')}`);
}

async function assertFits(page, name) {
  const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(scroll <= inner, `${name}: ${scroll} pixels wide in a window of ${inner} pixels`);
}

const screenshot = async (page, name, fullPage = false) => {
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage });
};

// ---- the index ----
const index = join(directory, 'index.html');
let pages = [];
for (const width of WIDTHS) {
  for (const scheme of ['light', 'dark']) {
    await check(`index at ${width}, ${scheme}: fits, is accessible`, async () => {
      const page = await open(index, width, scheme);
      await assertFits(page, 'index');
      await assertAccessible(page, 'index');
      await screenshot(page, `index-${width}-${scheme}`);
      await page.context().close();
    });
  }
}
await check('index: every link has a target', async () => {
  const page = await open(index, 1280);
  const links = await page.$$eval('a[href]', (all) => all.map((a) => a.href));
  pages = [...new Set(links.map((link) => link.split('#')[0]))].filter((link) => !link.endsWith('/index.html'));
  assert.ok(pages.length > 0, 'no pages are listed');
  for (const link of links) {
    const url = new URL(link);
    const html = readFileSync(url, 'utf8');
    const id = decodeURIComponent(url.hash.slice(1));
    assert.ok(!id || html.includes(`id="${id}"`), `${link} has no target`);
  }
  await page.context().close();
});
await check('index: the search filters pages and shows their number', async () => {
  const page = await open(index, 1280);
  const visible = () => page.$$eval('.item', (items) => items.filter((item) => item.offsetParent !== null).length);
  const all = await visible();
  const word = await page.$eval('.headlines a', (a) => a.textContent.trim().slice(0, 4));
  await page.fill('#q', word);
  const found = await visible();
  assert.ok(found >= 1 && found <= all);
  await page.fill('#q', word + ' 没有这样的词');
  assert.equal(await visible(), 0);
  assert.match(await page.textContent('#count'), new RegExp(`^0 of ${all} pages`));
  await page.fill('#q', '');
  assert.equal(await visible(), all);
  await page.check('#only');
  assert.equal(await visible(), await page.$$eval('.item[data-look]', (items) => items.length));
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
        await assertFits(page, name);
        await assertAccessible(page, name);
        await screenshot(page, `page-${number}-${width}-${scheme}`);
        if (scheme === 'light') await screenshot(page, `page-${number}-${width}-whole`, true);
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
  await check(`${name}: links, languages and highlights on hover`, async () => {
    const page = await open(file, 1280);
    const dead = await page.$$eval('a[href^="#"]', (all) => all.filter((a) => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).map((a) => a.outerHTML));
    assert.deepEqual(dead, []);
    const back = await page.$eval('.brand a', (a) => a.href);
    readFileSync(new URL(back));
    const notChinese = await page.$$eval('.pair .zh, .summary > p:not(.finding), article h2[lang]', (all) => all.filter((e) => !e.lang.startsWith('zh')).map((e) => e.outerHTML.slice(0, 80)));
    assert.deepEqual(notChinese, []);
    const unexplained = await page.$$eval('mark', (all) => all.filter((mark) => {
      const messages = [...mark.closest('.pair, .summary').querySelectorAll('.finding')].map((note) => note.textContent);
      return !mark.title || !messages.some((message) => message.includes(mark.title));
    }).map((mark) => mark.outerHTML));
    assert.deepEqual(unexplained, [], 'every mark belongs to a finding beside it');
    const link = await page.$('.pair .zh .k');
    if (link) {
      await link.hover();
      const on = await page.$$eval('.k.on', (all) => all.map((k) => !!k.closest('.en')));
      assert.ok(on.includes(true) && on.includes(false), 'hovering must highlight both languages');
      await screenshot(page, `page-${number}-hover`);
      await page.keyboard.press('Escape');
      await link.click();
      assert.ok(await page.evaluate(() => !!document.activeElement.closest('.en')), 'the link must lead to the other language');
      const count = await page.$$eval('.pair', (pairs) => Math.max(...pairs.map((pair) => pair.querySelectorAll('.k[tabindex="0"]').length)));
      assert.equal(count, 1, 'each paragraph must be a single tab stop');
    }
    const sentence = await page.$('.sum[data-from]:not([data-from=""])');
    if (sentence) {
      await sentence.hover();
      assert.ok((await page.$$('.src.on')).length > 0, 'a summary sentence must highlight its sources');
    }
    await page.context().close();
  });
  await check(`${name}: single language and print view`, async () => {
    const page = await open(file, 1280);
    const isVisible = (selector) => page.$$eval(selector, (all) => all.some((e) => e.offsetParent !== null));
    if (await page.$('#v-en')) {
      await page.check('#v-en');
      assert.ok(!(await isVisible('.pair .zh')) && await isVisible('.pair .en'));
      await page.check('#v-zh');
      assert.ok(await isVisible('.pair .zh') && !(await isVisible('.pair .en')));
      await page.check('#v-both');
    }
    await page.emulateMedia({ media: 'print' });
    assert.ok(!(await isVisible('.toc')) && !(await isVisible('.controls')));
    await page.context().close();
  });
}

// ---- the evaluation ----
for (const width of WIDTHS) {
  for (const scheme of ['light', 'dark']) {
    await check(`evaluation at ${width}, ${scheme}: fits, is accessible`, async () => {
      const page = await open(evaluation, width, scheme);
      await assertFits(page, 'evaluation');
      await assertAccessible(page, 'evaluation');
      await screenshot(page, `evaluation-${width}-${scheme}`, true);
      await page.context().close();
    });
  }
}
await check('evaluation: the search filters sentences and shows their number', async () => {
  const page = await open(evaluation, 1280);
  assert.equal(await page.textContent('#count'), '2 sentences');
  await page.fill('#q', '图书馆');
  assert.equal(await page.textContent('#count'), '1 of 2 sentences');
  await page.context().close();
});
await browser.close();
console.log(`${passed} passed, 0 failed`);
// The output directory also contains the run's metadata.
assert.ok(readdirSync(directory).includes('run.json'));
