#!/bin/sh
# report, compare and explain on runs of the tiny scenario, and roll-ups of runs that did not end.
. "${srcdir:-.}/tests/cli/tap.sh"
src=${srcdir:-.}
tiny=$src/tests/cli/tiny.yaml
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
db=$d/r.db

ask() { $p query "$db" --sql "$1" --format csv --no-header | tr -d '\r"'; }

$p run --quiet --no-plots --db "$db" "$tiny" -s router.share=layer -s memory.promotion=refetch \
	-s 'memory.tiers=[{name: hbm, capacity: 96KiB}, {name: host, capacity: unbounded}]' -s record.block_events=true \
	-s 'sweep={router.policy: [dense, streaming, quest, semantic, oracle]}' >"$d/out" 2>"$d/err"
none "a sweep is recorded" "$([ $? -eq 0 ] || echo failed; cat "$d/out" "$d/err")"

# Named queries that only such a sweep fills.
for q in regret regret-by-role best effects diff decisions failures tails prefetch wall time settings scenarios metrics blocks; do
	$p query "$db" $q --format jsonl >"$d/q" 2>"$d/err"
	none "query $q has rows" "$([ $? -eq 0 ] || cat "$d/err"; [ $q = failures ] || [ -s "$d/q" ] || echo none)"
done
none "the oracle has no regret against itself, the others miss mass" "$(
	[ "$($p query "$db" regret -f csv --no-header | wc -l)" -eq 4 ] || echo "not four runs"
	$p query "$db" --sql "SELECT 1" >/dev/null
	$p query "$db" regret -f csv --no-header | tr -d '\r' | awk -F, '$2 !~ /dense|quest/ && $5 <= 0')"
none "roll-ups of decisions count every logged decision" "$(ask 'SELECT sum(decisions) - (SELECT count(*) FROM block_event)
	FROM run_decision' | grep -vx 0)"

# report
$p report "$db" -o "$d/r.html" --no-plots --title 'A <b> & "c"' >"$d/out" 2>"$d/err"
none "report writes a page and says where" "$([ $? -eq 0 ] || cat "$d/err"; grep -qx "$d/r.html" "$d/out" || cat "$d/out")"
none "its title is escaped" "$(grep -q '<h1>A &lt;b&gt; &amp; &quot;c&quot;</h1>' "$d/r.html" || grep -n '<h1>' "$d/r.html")"
none "it names nothing outside itself" "$(grep -nE '(src|href)="?(https?:)?//' "$d/r.html"; grep -n '@import' "$d/r.html")"
none "it has findings, tables and the scenario" "$(for t in 'Best at each byte budget' 'Regret against the oracle' Anomalies \
	'class="sorts"' 'name: tiny' 'Where it ran'; do grep -q "$t" "$d/r.html" || echo "no $t"; done)"
if command -v python3 >/dev/null; then
	ok "its tags are balanced and no id stands twice" python3 -c '
import html.parser, sys
class P(html.parser.HTMLParser):
    void = {"meta", "link", "br", "hr", "img"}
    def __init__(self): super().__init__(); self.stack = []; self.ids = set()
    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k == "id":
                assert v not in self.ids, v
                self.ids.add(v)
        if tag not in self.void: self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void: self.stack.pop()
    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.getpos())
p = P(); p.feed(open(sys.argv[1]).read()); p.close()
assert not p.stack, p.stack' "$d/r.html"
else
	skip "its tags are balanced: no python3"
fi
mkdir "$d/bin" # what the program's own starting script needs, and no gnuplot
for tool in sh sed ls cat rm basename dirname expr printf; do ln -s "$(command -v $tool)" "$d/bin/" 2>/dev/null; done
PATH=$d/bin $p report "$db" -o "$d/no.html" >"$d/out" 2>"$d/err"
none "without gnuplot the page has no figures, and that is said" "$([ $? -eq 0 ] || echo failed; ! grep -q '<svg' "$d/no.html" || echo svg
	[ "$(cat "$d/err")" = "intentkv: report: the page has no figures, since gnuplot is not there (Debian, Ubuntu: gnuplot-nox)" ] ||
		cat "$d/err")"
echo '{"messages": 5' >"$d/bad.json"
$p sweep "$tiny" -s sessions.source=trace -s sessions.format=openai-chat -s sessions.path="$d/bad.json" -x router.policy=quest \
	--db "$d/bad.db" --quiet >"$d/out" 2>&1
PATH=$d/bin $p report "$d/bad.db" -o "$d/bad.html" >"$d/out" 2>"$d/err"
none "of a run that failed before it began the page says why" "$(grep -q '(run 1) failed after 0 steps: .*bad.json:1: ' "$d/bad.html" ||
	grep '(run 1)' "$d/bad.html"; grep -E '[^a-z]nan[^a-z]' "$d/bad.html")"
if command -v gnuplot >/dev/null; then
	$p report "$db" -o "$d/f.html" >"$d/out" 2>"$d/err"
	none "with figures it has them as SVG, each id once" "$([ "$(grep -c '<svg' "$d/f.html")" -ge 12 ] || echo "too few"
		grep -oE ' id="[^"]*"' "$d/f.html" | sort | uniq -d | head -3)"
else
	skip "no gnuplot"
fi
$p report "$db" --run 99 -o "$d/none.html" >"$d/out" 2>"$d/err"
none "runs that are not there are an error, and leave no page" "$([ $? -eq 65 ] || cat "$d/err"; ls "$d"/none.html* 2>/dev/null)"

# compare
none "a run compared with itself differs nowhere" "$($p compare "$db:quest" "$db:3" >"$d/out" 2>"$d/err" || cat "$d/err"
	grep -q 'were decided alike' "$d/out" || cat "$d/out"
	$p compare "$db:quest" "$db:3" -f csv | sed 1d | awk -F, '$6 != 0 || $7 != 0 || $8 != 0')"
$p compare "$db:streaming" "$db:semantic" >"$d/a" 2>"$d/err" && $p compare "$db:streaming" "$db:semantic" >"$d/b"
none "the bootstrap is the same each time" "$(cmp "$d/a" "$d/b" 2>&1)"
none "another seed gives another interval" "$($p compare "$db:streaming" "$db:semantic" --seed 7 | cmp -s - "$d/a" && echo same)"
none "means are those of the steps" "$(a=$($p compare "$db:streaming" "$db:semantic" -f csv | grep ^rel_l2, |
	cut -d, -f4,5); b=$(ask "SELECT (SELECT avg(rel_l2) FROM step WHERE run_id = 2) || ',' || (SELECT avg(rel_l2) FROM step
	WHERE run_id = 4)"); echo "$a,$b" | tr -d '\r' | awk -F, '{ d = $1 - $3; e = $2 - $4
	if (d * d > 1e-18 || e * e > 1e-18) print }')"
none "the first difference leads to explain" "$(grep -q 'intentkv explain .* --run 2 --session [0-9]* --step 0$' "$d/a" || cat "$d/a")"
$p compare "$db:nobody" "$db" >"$d/out" 2>"$d/err"
none "a run that is not there is named" "$([ $? -eq 65 ] && grep -q nobody "$d/err" || cat "$d/err")"

# explain: a replay with the recorded hash, for every router.
for r in dense streaming quest semantic oracle; do
	$p explain "$db" --run $r --session 1 --step 9 >"$d/$r" 2>"$d/err"
	none "explain $r" "$([ $? -eq 0 ] || cat "$d/err"; grep -q 'of the dense softmax mass' "$d/$r" || cat "$d/$r")"
done
none "the oracle would have done what it did" "$(awk '/^The pages read/ && $5 != $(NF - 1)' "$d/oracle")"
none "decisions are those of the log" "$($p explain "$db" --run semantic --session 1 --step 9 --block tool_output#8 -f csv | sed 1d |
	tr -d '\r"' | cut -d, -f1-3,6-10 | sort >"$d/x"
	ask "SELECT layer, head, block, start_token, end_token, decision, format, reason FROM block_event WHERE run_id = 4 AND
	session = 1 AND step = 9 AND block = 'tool_output#8'" | sort >"$d/y"; [ -s "$d/x" ] && cmp "$d/x" "$d/y" 2>&1 ||
	head "$d/x" "$d/y")"
$p explain "$db" --run quest --session 1 --step 9 --block tool_outptu#8 >"$d/out" 2>"$d/err"
none "a misspelt block is answered with the nearest" "$([ $? -eq 64 ] && grep -q 'did you mean "tool_output#8"' "$d/err" || cat "$d/err")"
$p explain "$db" --run quest --step 99999 >"$d/out" 2>"$d/err"
none "a step that is not there is named" "$([ $? -eq 65 ] && grep -q 'no step 99999' "$d/err" || cat "$d/err")"
$p explain "$db" --run quest --session 1 --step 9 -s seed=8 >"$d/out" 2>"$d/err"
none "a replay that decides otherwise is refused, with the setting" "$([ $? -eq 1 ] && grep -q 'seed is "8" here' "$d/err" ||
	cat "$d/err")"

# A run of one step: figures without a word, though no axis has a range.
$p run --quiet --no-plots --db "$d/one.db" "$tiny" -s sessions.count=1 -s sessions.max_decode_tokens=1 >"$d/out" 2>"$d/err"
if command -v gnuplot >/dev/null; then
	$p plot "$d/one.db" -o "$d/one" >"$d/out" 2>"$d/err"
	none "figures of one step are drawn quietly" "$([ $? -eq 0 ] || echo failed; [ -s "$d/one/growth.svg" ] || echo none
		grep -v 'no data for' "$d/err")"
else
	skip "no gnuplot"
fi

# Options of a residency are settings like others: recorded, part of what a point is, and given again by explain.
for r in lru '{policy: lru}' s3fifo; do
	$p run --quiet --no-plots --db "$d/residency.db" "$tiny" -s "memory.residency=$r"
done >"$d/out" 2>&1
$p run --quiet --no-plots --db "$d/residency.db" "$tiny" -s memory.residency=s3fifo -s memory.residency.small=0.4 >>"$d/out" 2>&1
db=$d/residency.db
none "a residency is one point however it is written, and another with other options" "$(
	[ "$(ask 'SELECT count(*), count(DISTINCT point_key) FROM run')" = 4,3 ] || ask 'SELECT run_id, point_key FROM run'
	cat "$d/out")"
none "its options are recorded" "$(ask "SELECT value FROM run_param WHERE run_id = 4 AND key = 'memory.residency.small'" |
	grep -qx 0.4 || ask "SELECT key, value FROM run_param WHERE run_id = 4")"
$p explain "$db" --run 4 --session 1 --step 9 >"$d/out" 2>"$d/err"
none "and a replay has them" "$([ $? -eq 0 ] || cat "$d/err")"
echo "1..$number"
