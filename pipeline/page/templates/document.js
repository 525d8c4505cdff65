// Moves between the marks of a document and tells what was judged: 'judge' and 'step' are events of the page.
// What people wrote is set by textContent only.
const KEYS = {
  r: () => judge('right'), w: () => judge('wrong'), n: () => judge('unsure'), u: () => undo(),
  ArrowRight: () => move(1), ArrowLeft: () => move(-1), l: () => move(1), h: () => move(-1),
  '.': () => trigger('step', { by: 1 }), ',': () => trigger('step', { by: -1 }),
};
const SAID = { right: '✓ right', wrong: '✗ wrong', unsure: '? not sure' };
let current = -1;
let judged = []; // places of marks, in the order in which they were judged
let there = null; // the document that is shown, and the place of its current mark

const article = () => element.querySelector('article.document');
const marks = () => [...element.querySelectorAll('mark')];
const named = () => article() && `${article().dataset.file} ${article().dataset.row}`;
const placeOf = (mark) => `${mark.dataset.start}-${mark.dataset.end}`;

const show = (scroll) => {
  const all = marks();
  const panel = element.querySelector('.panel');
  const able = article()?.dataset.judge === '1';
  if (panel) panel.hidden = !able;
  if (!able) return;
  all.forEach((mark, at) => mark.classList.toggle('current', at === current));
  const mark = all[current];
  const put = (name, text) => { panel.querySelector(name).textContent = text; };
  const done = all.filter((one) => one.dataset.mine).length;
  put('.progress', `${done} of ${all.length} judged by you`);
  panel.querySelector('.bar').style.setProperty('--p', all.length ? done / all.length : 0);
  panel.classList.toggle('done', done === all.length);
  if (!mark) return;
  there = { document: named(), place: placeOf(mark) };
  put('.of', `${current + 1} / ${all.length}`);
  put('.what', mark.textContent);
  put('.p', Number(mark.dataset.p).toFixed(3));
  put('.kind', mark.classList.contains('candidate') ? 'not flagged' : 'flagged');
  const suggestions = JSON.parse(mark.dataset.suggestions);
  put('.instead', suggestions.length ? `instead: ${suggestions.join(' · ')}` : '');
  const others = JSON.parse(mark.dataset.others);
  const people = panel.querySelector('.people');
  people.replaceChildren(...others.map(([name, verdict]) => {
    const chip = document.createElement('span');
    chip.className = `chip ${verdict}`;
    chip.textContent = `${name}: ${SAID[verdict] ?? verdict}`;
    return chip;
  }));
  const mine = mark.dataset.mine;
  const against = { right: 'wrong', wrong: 'right' }[mine];
  const voices = new Set([...others.map(([, verdict]) => verdict), mine]);
  const dispute = against ? voices.has(against) : voices.has('right') && voices.has('wrong');
  panel.querySelector('.dispute').hidden = !dispute;
  panel.querySelectorAll('button[data-verdict]').forEach((button) => {
    button.setAttribute('aria-pressed', String(button.dataset.verdict === mine));
  });
  if (scroll) mark.scrollIntoView({ block: 'nearest' });
};

const move = (by) => {
  const all = marks();
  if (!all.length) return;
  current = Math.min(all.length - 1, Math.max(0, current + by));
  show(true);
};

const say = (mark, verdict) => {
  mark.dataset.mine = verdict === 'withdrawn' ? '' : verdict;
  mark.classList.remove('right', 'wrong', 'unsure');
  if (mark.dataset.mine) mark.classList.add(verdict);
  trigger('judge', {
    file: JSON.parse(article().dataset.file), row: Number(article().dataset.row),
    start: Number(mark.dataset.start), end: Number(mark.dataset.end), verdict,
  });
};

const judge = (verdict) => {
  const all = marks();
  const mark = all[current];
  if (!mark || article().dataset.judge !== '1') return;
  judged.push(placeOf(mark));
  say(mark, verdict);
  const next = all.findIndex((one, at) => at > current && !one.dataset.mine);
  if (next >= 0) current = next;
  else if (current + 1 < all.length) current += 1;
  show(true);
};

const undo = () => {
  const all = marks();
  const at = judged.length ? all.map(placeOf).indexOf(judged.pop()) : current;
  if (!all[at] || !all[at].dataset.mine) return;
  current = at;
  say(all[at], 'withdrawn');
  show(true);
};

const begin = () => {
  const again = there && named() === there.document; // with other marks, or for another person
  current = again ? marks().map(placeOf).indexOf(there.place) : -1;
  if (!again) judged = [];
  if (current < 0) current = marks().findIndex((mark) => !mark.dataset.mine);
  if (current < 0) current = marks().length ? 0 : -1;
  show(false);
  const text = element.querySelector('.marked');
  const mark = marks()[current];
  if (text && mark) text.scrollTop = Math.max(0, mark.offsetTop - text.clientHeight / 3);
};

element.addEventListener('click', (event) => {
  const mark = event.target.closest('mark');
  const button = event.target.closest('button');
  if (mark) {
    current = marks().indexOf(mark);
    show(false);
  } else if (button?.dataset.verdict) judge(button.dataset.verdict);
  else if (button?.dataset.key) KEYS[button.dataset.key]();
});
document.addEventListener('keydown', (event) => {
  const there = event.target;
  const typing = there.isContentEditable || (there.matches?.('textarea, select, input, [role=listbox], [role=tab], [role=slider]'));
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !element.offsetParent) return;
  const act = KEYS[event.key];
  if (!act || !article()) return;
  event.preventDefault();
  act();
});
watch('value', begin);
begin();
