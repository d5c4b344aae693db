// Tables sort by the column whose head is pressed: numbers by value, text by locale; empty cells stay last.
for (const table of document.querySelectorAll("table.sorts")) {
	const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
	heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
		const down = head.getAttribute("aria-sort") === "ascending";
		const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
		const order = (a, b) => {
			const x = key(a), y = key(b);
			if (x === "" || y === "") return (x === "") - (y === "");
			const by = head.classList.contains("n") ? x - y : x.localeCompare(y, undefined, {numeric: true});
			return down ? -by : by;
		};
		heads.forEach(other => other.removeAttribute("aria-sort"));
		head.setAttribute("aria-sort", down ? "descending" : "ascending");
		body.append(...[...body.rows].sort(order));
	}));
}
