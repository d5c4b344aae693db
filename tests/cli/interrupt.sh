#!/bin/sh
# A run that is stopped: the exit code, the status of the run, and a database that holds whole steps only.
. "${srcdir:-.}/tests/cli/tap.sh"
tiny=${srcdir:-.}/tests/cli/tiny.yaml
d=$(mktemp -d) || exit 99
trap 'kill -KILL $pid 2>/dev/null; rm -rf "$d"' EXIT
p=./intentkv

ask() { $p query "$d/r.db" --sql "$1" --format csv --no-header | tr -d '\r'; }

# start: a run far too long to end, played until steps are in the database.
start() {
	$p run --no-plots --db "$d/r.db" "$tiny" -s sessions.count=20000 -s attention.execute=sampled \
		-s attention.every=4 >"$d/out" 2>"$d/err" &
	pid=$!
	tries=0
	until [ "$(ask "SELECT count(*) > 0 FROM step JOIN run USING (run_id) WHERE status = 'running'" 2>/dev/null)" = 1 ] ||
		! kill -0 $pid 2>/dev/null || [ $tries -ge 300 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
}

plan 14
for signal in INT TERM; do
	start
	kill -s $signal $pid
	wait $pid
	rc=$?
	[ $signal = INT ] && want=130 || want=143
	ok "SIG$signal: exit code $want" [ $rc -eq $want ]
	ok "SIG$signal: the run is marked" [ "$(ask 'SELECT status FROM run ORDER BY run_id DESC LIMIT 1')" = interrupted ]
done
none "no plots and no tables of a run that was stopped" "$(cat "$d/out")"
ok "the database can be asked" $p query "$d/r.db"
ok "there are steps" [ "$(ask 'SELECT count(*) > 100 FROM step')" = 1 ]
ok "no step is missing" [ "$(ask "SELECT count(*) FROM (SELECT count(*) AS n, max(step) - min(step) + 1 AS m
	FROM step GROUP BY run_id, session HAVING n <> m)")" = 0 ]
# The runs are the same but for their ends: where one ends, the others have as many sessions in that step.
halves="WITH b AS (SELECT run_id, batch_step, count(*) AS n FROM step JOIN run USING (run_id) WHERE status = 'interrupted'
	GROUP BY run_id, batch_step) SELECT count(*) FROM b AS x JOIN b AS y USING (batch_step) WHERE x.n <> y.n"
ok "a step is there with all its sessions, or not at all" [ "$(ask "$halves")" = 0 ]
ok "no step without its roles" [ "$(ask "SELECT count(*) FROM step s WHERE mass_by IS NOT NULL AND NOT EXISTS
	(SELECT 1 FROM step_role r WHERE r.run_id = s.run_id AND r.session = s.session AND r.step = s.step)")" = 0 ]
ok "no measured step without its layers" [ "$(ask "SELECT count(*) FROM step s WHERE mass_by = 'measured' AND 2 <>
	(SELECT count(*) FROM step_layer l WHERE l.run_id = s.run_id AND l.session = s.session AND l.step = s.step)")" = 0 ]
none "no lock and no log are left" "$(ls "$d" | grep 'r.db.')"

# A process that is killed cannot clean up; the next writer does.
start
kill -KILL $pid
wait $pid 2>/dev/null
$p run --quiet --no-plots --db "$d/r.db" "$tiny" -s sessions.count=1 >/dev/null 2>&1
ok "the next run marks what a killed one left" [ "$(ask "SELECT group_concat(status) FROM
	(SELECT status FROM run ORDER BY run_id)")" = '"interrupted,interrupted,interrupted,done"' ]
ok "and it left whole steps" [ "$(ask "$halves")" = 0 ]
