// A click or Enter on a document opens it, one on a heading sorts. 'open' and 'sort' are events of the page.
const open = (row) => {
  element.querySelectorAll('tr.chosen').forEach((other) => other.classList.remove('chosen'));
  row.classList.add('chosen');
  trigger('open', { file: JSON.parse(row.dataset.file), row: Number(row.dataset.row) });
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-sort]');
  if (button) return trigger('sort', { by: button.dataset.sort });
  const row = event.target.closest('tr[data-file]');
  if (row) open(row);
});
element.addEventListener('keydown', (event) => {
  const row = event.target.closest('tr[data-file]');
  if (row && (event.key === 'Enter' || event.key === ' ')) {
    event.preventDefault();
    open(row);
  }
});
