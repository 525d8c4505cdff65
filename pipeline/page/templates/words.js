// Marks the words at or above the threshold; the slider acts here, without asking the program.
const mark = () => {
  const words = element.querySelectorAll('.w');
  if (!words.length) return;
  const limit = window.rtdscan_threshold ?? 0.5;
  let over = 0;
  words.forEach((word) => {
    const on = Number(word.dataset.p) >= limit;
    word.classList.toggle('on', on);
    over += on;
  });
  element.querySelector('.over').textContent = over.toLocaleString('en');
  element.querySelector('.limit').textContent = Number(limit).toFixed(2);
};
window.addEventListener('rtdscan:threshold', mark);
watch('value', mark);
mark();
