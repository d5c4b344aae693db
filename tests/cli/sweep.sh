#!/bin/sh
# Sweeps: which points there are, what is run and what is not, what becomes of failures, and that nothing that ends a
# process changes what the database holds in the end.
. "${srcdir:-.}/tests/cli/tap.sh"
tiny=${srcdir:-.}/tests/cli/tiny.yaml
d=$(mktemp -d) || exit 99
pid=
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null; rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv

ask() { $p query "$d/$1.db" --sql "$2" --format csv --no-header | tr -d '\r"'; }
# sweep NAME OPTIONS...: into NAME.db; output in $d/out, messages in $d/err, exit code in $rc.
sweep() {
	name=$1
	shift
	$p sweep "$tiny" -s attention.every=8 --db "$d/$name.db" "$@" >"$d/out" 2>"$d/err"
	rc=$?
}
hashes() { $p runs "$d/$1.db" --hash; }
# wrong DESCRIPTION CODE MESSAGE OPTIONS...
wrong() {
	description=$1 code=$2 message=$3
	shift 3
	sweep wrong "$@"
	none "$description" "$(
		[ $rc -eq "$code" ] || echo "exit code $rc, expected $code"
		[ "$(cat "$d/err")" = "$message" ] || { echo "got      $(cat "$d/err")"; echo "expected $message"; }
		[ ! -e "$d/wrong.db" ] || echo "left a database"
	)"
}
workers() { cat "/proc/$1/task/$1/children" 2>/dev/null; }

plan 58
set -- -x router.policy=quest,semantic,dense -x router.budget=5%..20%:3:log \
	-w 'router.policy != dense or router.budget == 5%'
sweep one --dry-run "$@"
ok "--dry-run succeeds" [ $rc -eq 0 ]
ok "--dry-run lists the points" [ "$(grep -c '^ *[0-9]*  new  ' "$d/out")" = 7 ]
ok "--dry-run counts" grep -q '^7 points: 7 to run, 0 in the database; 2 combinations left out by conditions$' "$d/out"
ok "--dry-run makes no database" [ ! -e "$d/one.db" ]
sweep one -j 2 "$@"
none "the sweep runs" "$([ $rc -eq 0 ] || cat "$d/err")"
ok "every point is a run that is done" [ "$(ask one "SELECT count(*), sum(status = 'done'), count(DISTINCT point_key)
	FROM run")" = 7,7,7 ]
ok "the summary has the front" grep -q 'dense budget=5%' "$d/out"
ok "points are numbered in their order" [ "$(ask one "SELECT point FROM run WHERE run_id = 2")" = "quest budget=10%" ]
sweep one --dry-run "$@"
ok "--dry-run knows them" grep -q '^7 points: 0 to run, 7 in the database;' "$d/out"
hashes one >"$d/before"
sweep one -j 2 "$@"
ok "nothing runs twice" grep -q '^0 done, 0 failed, 7 were in the database' "$d/out"
none "and nothing changed" "$(hashes one | diff - "$d/before")"
sweep one -j 2 -x router.budget=5%,10%,20%,40% -x router.policy=semantic,quest
ok "a point is found by what it is, not by its place" grep -q '^2 done, 0 failed, 6 were in the database' "$d/out"
sweep one -x router.policy=quest -x router.budget=5% -s attention.threads=1 -s name=other
ok "threads and names do not make a new point" grep -q '^0 done, 0 failed, 1 were in the database' "$d/out"
sweep one -x router.policy=quest -x router.budget=5% -s memory.page_tokens=8
ok "another setting does" grep -q '^1 done, 0 failed, 0 were in the database' "$d/out"
set -- -x router.policy=quest,semantic,quest -x router.budget=5%,0.05 -x name=a,b
sweep same --dry-run "$@"
ok "combinations with the same settings are one point" grep -q '^2 points: 2 to run, .*; 10 left out, their settings are those of an earlier one$' "$d/out"
sweep same -j 2 "$@"
ok "played once" [ "$(ask same "SELECT count(*), max(run_id), count(DISTINCT point_key) FROM run")" = 2,2,2 ]
sweep time -x attention.threads=1,2 -x attention.isa=scalar,auto
ok "threads and ISA are points where they are axes" [ "$(ask time "SELECT count(DISTINCT point_key) FROM run")" = 4 ]
wrong "an axis that no point has" 65 "intentkv: -x: sweep.repeat: no setting of a point, so no axis" -x sweep.repeat=1,2
$p run "$tiny" -s attention.every=8 -s 'sweep={router.policy: [oracle]}' --quiet --no-plots --db "$d/run.db"
sweep run -x router.policy=oracle,quest
ok "runs of intentkv run count" grep -q '^1 done, 0 failed, 1 were in the database' "$d/out"

# Edited and swept again, the points of the scenario as it is now are those that queries and figures show.
cp "$tiny" "$d/edit.yaml"
cp "${tiny%.yaml}.profile.yaml" "$d"
shown() { ask edit "SELECT group_concat(label, ';') FROM (SELECT label FROM v_latest ORDER BY label)"; }
edited() { # edited BUDGETS: with these in its sweep section
	{ cat "$tiny"; echo "sweep: {router.policy: [quest, oracle], router.budget: [$1]}"; } >"$d/edit.yaml"
	$p sweep "$d/edit.yaml" -s attention.every=8 --db "$d/edit.db" >"$d/out" 2>"$d/err" || cat "$d/err"
}
edited '5%, 50%'
edited '50%, 20%'
ok "after an edit: old and new points of it, and no other" [ "$(shown)" = \
	"oracle budget=20%;oracle budget=50%;quest budget=20%;quest budget=50%" ]
ok "the front is that of all of them" [ "$(grep -c '^ *[0-9.]*  *[0-9.]*  quest budget=[25]0%$' "$d/out")" = 2 ]
ok "and without the oracle, which is a bound" sh -c '! grep -q "^ .*oracle budget" "$1" && grep -q "(oracle, which knows the future, apart)" "$1"' - "$d/out"
edited '5%, 50%'
ok "back to the first text: its points again" [ "$(shown) $(grep -c '^0 done, 0 failed, 4 were' "$d/out")" = \
	"oracle budget=5%;oracle budget=50%;quest budget=5%;quest budget=50% 1" ]
ok "with the origins that it gives them" [ "$(ask edit "SELECT group_concat(DISTINCT origin) FROM v_latest
	JOIN run_param USING (run_id) WHERE key = 'router.budget'")" = sweep ]
ok "query pareto gives the oracle no place" [ "$($p query "$d/edit.db" pareto --format csv | tr -d '\r' | grep -c '^.*,oracle,.*,$')" = 2 ]
ok "the file is good" $p db check "$d/edit.db"
if command -v gnuplot >/dev/null; then
	$p sweep "$d/edit.yaml" -s attention.every=8 --db "$d/edit.db" --plot "$d/drawn" >"$d/out" 2>"$d/err"
	ok "--plot draws what suits a sweep, and the summary says how" [ -s "$d/drawn/pareto.svg" -a -s "$d/drawn/mass-bytes.svg" -a \
		"$(grep -c "intentkv plot $d/edit.db pareto mass-bytes -o $d/edit\$" "$d/out")" = 1 ]
else
	skip "no gnuplot"
fi

# A file's contents are part of a point.
cp "${srcdir:-.}/docs/examples/chat.json" "$d/a.json"
sweep trace -s sessions.source=trace -x "sessions.path=$d/a.json"
cp "$d/a.json" "$d/b.json"
sweep trace -s sessions.source=trace -x "sessions.path=$d/b.json"
ok "the same trace under another name is the same point" grep -q '^0 done, 0 failed, 1 were in' "$d/out"
mkdir "$d/deep"
sweep trace -s sessions.source=trace -x "sessions.path=$d/deep/../a.json"
ok "dots in a path are no range" grep -q '^0 done, 0 failed, 1 were in' "$d/out"
echo ' ' >>"$d/b.json"
sweep trace -s sessions.source=trace -x "sessions.path=$d/b.json"
ok "another trace under the same name is not" grep -q '^1 done, 0 failed, 0 were in' "$d/out"

# Failures.
echo '{"messages": 5' >"$d/bad.json"
sweep fail -j 2 -s sessions.source=trace -s sessions.format=openai-chat -x "sessions.path=$d/bad.json,$d/a.json"
ok "a failing point: exit code 2" [ $rc -eq 2 ]
ok "it is told with its message" grep -q "^failed: path=$d/bad.json: $d/bad.json:" "$d/err"
ok "and recorded; the others went on" [ "$(ask fail "SELECT status, message LIKE '%bad.json:%' FROM run ORDER BY run_id")" = "failed,1
done," ]
ok "query failures lists it" sh -c '[ "$('$p' query "$1" failures --format csv --no-header | wc -l)" = 1 ]' - "$d/fail.db"
sweep fail1 -s sessions.source=trace -s sessions.format=openai-chat -s "sessions.path=$d/bad.json"
ok "a sweep without axes: so it says where a label would stand" [ "$(grep -c '^failed: (no axes)' "$d/err" "$d/out" | tr '\n' ' ' | sed "s;$d/;;g")" = \
	"err:1 out:1 " ]
cp "$d/a.json" "$d/bad.json"
sweep fail -j 2 -s sessions.source=trace -s sessions.format=openai-chat -x "sessions.path=$d/bad.json,$d/a.json"
ok "mended, it is found by its contents" [ "$rc $(grep -c "1 were in" "$d/out")" = "0 1" ]
sweep slow -j 2 -x sessions.count=1,20000 --timeout 3
ok "--timeout fails the slow point only" [ "$rc $(ask slow "SELECT group_concat(status || coalesce(message, '')) FROM run")" = \
	"2 done,failedtook longer than 3 s (--timeout)" ]

# Parts and merging.
set -- -x router.policy=quest,semantic -x router.budget=5%,10%,20%
sweep whole -j 1 "$@"
sweep part1 --part 1/2 "$@"
sweep part2 --part 2/2 "$@"
ok "a part plays its share" [ "$(ask part1 'SELECT count(*) FROM run')" = 3 ]
$p merge "$d/merged.db" "$d/part1.db" "$d/part2.db" >"$d/out" 2>&1
ok "merge counts" grep -q 'part2.db: 3 runs taken in, 0 were there' "$d/out"
none "parts have the runs of the whole" "$(
	hashes merged | cut -f 2 | sort >"$d/merged"
	hashes whole | cut -f 2 | sort | diff - "$d/merged"
)"
ok "merged again: nothing new" sh -c "$p merge '$d/merged.db' '$d/part1.db' | grep -q ': 0 runs taken in, 3 were there'"
ok "merged rows are complete" [ "$(ask merged 'SELECT count(*), count(DISTINCT run_id) FROM step')" = \
	"$(ask whole 'SELECT count(*), count(DISTINCT run_id) FROM step')" ]

wrong "an axis of nothing" 64 'intentkv: sweep: -x router.policy: expected section.key=VALUE,VALUE or key=FROM..TO:COUNT; see `intentkv sweep --help`' -x router.policy
wrong "an unknown policy on an axis" 65 'intentkv: -x: router.policy: got "quset", expected one of: semantic, dense, recency, random, streaming, quest, oracle; did you mean "quest"?' -x router.policy=quset
wrong "a condition on an unknown key" 65 'intentkv: -w: sweep.where: "router.polcy == quest": router.polcy is no key of a scenario; text with a dot needs quotes' -w 'router.polcy == quest'
wrong "a part that is none" 64 'intentkv: sweep: --part: got "3/2", expected I/N, I from 1 to N; see `intentkv sweep --help`' --part 3/2
sh -c "$p sweep emit-slurm '$tiny' --db '$d/it'\''s [1]*.db' --tasks 3 -x 'router.policy=quest'" >"$d/array.sh"
none "and refuses what its tasks would refuse" "$(
	for words in '-x router.polcy=quest' '-s sweep.refine={rounds:1}' '-w router.policy==none'; do
		$p sweep emit-slurm "$tiny" --db s.db $words >"$d/out" 2>"$d/err" && echo "$words: accepted"
		[ -s "$d/out" ] && echo "$words: a script"
		[ "$(wc -l <"$d/err")" = 1 ] || cat "$d/err"
	done
	$p sweep emit-slurm "$d/none.yaml" --db s.db >"$d/out" 2>&1 && echo "no scenario: accepted")"
ok "emit-slurm writes a script for sh" sh -n "$d/array.sh"
sed "s|^program=.*|program=$p|" "$d/array.sh" >"$d/task.sh"
SLURM_ARRAY_TASK_ID=1 sh "$d/task.sh" >"$d/out" 2>&1
: >"$d/it's [1]*.db.part-0-wal" # as tasks that were killed leave them
: >"$d/it's [1]*.db.part-0"
ok "a task of it plays its part, and parts are merged" sh -c "sh '$d/task.sh' merge && [ -e '$d/it'\''s [1]*.db' ]"

# Stopped and killed: in the end the same numbers and hashes as undisturbed.
set -- -x router.policy=quest,semantic,streaming,recency -x router.budget=5%,10%,15%,20%,25%
sweep calm -j 1 "$@"
hashes calm >"$d/calm"
for i in 1 2 3 4 5 6 7 8 9 10; do
	$p sweep "$tiny" -s attention.every=8 --db "$d/killed.db" -j 2 --quiet "$@" >/dev/null 2>&1 &
	pid=$!
	sleep "0.$(awk -v seed=$$ -v i=$i 'BEGIN { srand(seed + i); print 1 + int(4 * rand()) }')"
	kill -KILL $pid
	wait $pid 2>/dev/null
done
sweep killed -j 2 "$@"
none "killed ten times and resumed: the same" "$(hashes killed | diff - "$d/calm"; [ $rc -eq 0 ] || cat "$d/err")"
none "killing leaves no files" "$(ls -A "$d" | grep -e killed.db. -e spool)"

$p sweep "$tiny" -s attention.every=8 --db "$d/lost.db" -j 2 --quiet "$@" >/dev/null 2>"$d/err" &
pid=$!
sleep 0.2
for worker in $(workers $pid); do kill -KILL "$worker" 2>/dev/null; done
wait $pid
none "lost workers: the same" "$(hashes lost | diff - "$d/calm"; cat "$d/err")"

(ulimit -Sn 64; $p sweep "$tiny" -s attention.every=8 --db "$d/wide.db" -j 40 --quiet "$@" >/dev/null 2>"$d/err")
none "more workers than a process may open files for: the same" "$(hashes wide | diff - "$d/calm"; cat "$d/err")"

# A disk that is full, as the limit of a file's size makes it.
(trap '' XFSZ; ulimit -f 600; $p sweep "$tiny" -s attention.every=8 --db "$d/full.db" -j 2 --quiet "$@" >/dev/null 2>"$d/err")
ok "a full disk: exit code 74" [ $? -eq 74 ]
sweep full -j 2 "$@"
none "then resumed: the same" "$(hashes full | diff - "$d/calm"; [ $rc -eq 0 ] || cat "$d/err")"

# Ranks of MPI.
why=
[ -n "${HAVE_MPI-}" ] || why="not configured --with-mpi"
command -v mpirun >/dev/null || why="no mpirun"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
for ranks in 2 4; do
	if [ -n "$why" ]; then
		skip "$ranks ranks: $why"
		continue
	fi
	mpirun --oversubscribe -n $ranks $p sweep "$tiny" -s attention.every=8 --db "$d/mpi[$ranks]*.db" --quiet "$@" \
		>"$d/out" 2>&1
	none "$ranks ranks: the same as -j 1" "$(hashes "mpi[$ranks]*" | diff - "$d/calm" || cat "$d/out"; ls "$d" | grep shard)"
done
if [ -n "$why" ]; then
	skip "a lost rank: $why"
else
	mpirun --oversubscribe -n 2 $p sweep "$tiny" -s attention.every=8 --db "$d/rank.db" --quiet "$@" >"$d/out" 2>&1 &
	pid=$!
	tries=0
	until [ -e "$d/rank.db.shard-1" ] || [ $tries -ge 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	sleep 0.3
	for rank in $(workers $pid); do victim=$rank; done
	kill -KILL "$victim"
	wait $pid 2>/dev/null
	pid=
	sleep 0.2
	: >"$d/rank.db.shard-7" # of one that was killed at its very beginning
	: >"$d/rank.db.shard-7-journal"
	sweep rank -j 2 "$@"
	none "a rank was killed: resumed, the same" "$(hashes rank | diff - "$d/calm"; [ $rc -eq 0 ] || cat "$d/err"; ls "$d" | grep shard)"
fi
