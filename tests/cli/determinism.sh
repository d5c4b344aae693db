#!/bin/sh
# The canonical hash of a run does not depend on threads, instruction set or repetition; it does on the seed.
. "${srcdir:-.}/tests/cli/tap.sh"
tiny=${srcdir:-.}/tests/cli/tiny.yaml
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
isas=$($p doctor | awk '$1 == "ok" && $2 == "isa" { print $3 }')

# Fast tiers that hold a part of the sessions, so that pages move; every record that exists.
pressure='memory.tiers=[{name: hbm, capacity: 96KiB}, {name: host, capacity: unbounded}]'
points='sweep={router.policy: [semantic, quest, oracle, random], attention.execute: [full, sampled, "off"]}'

# hashes NAME OPTIONS...: the hashes of all points, one a line, without the numbers of the runs.
hashes() {
	name=$1
	shift
	$p run --quiet --no-plots --db "$d/$name.db" "$tiny" -s "$points" -s attention.every=4 "$@" >"$d/out" 2>&1 &&
		$p runs "$d/$name.db" --hash >"$d/list" && cut -f 2 "$d/list" >"$d/$name.hash" && rm -f "$d/$name.db" ||
		cat "$d/out"
}

# same DESCRIPTION NAME NAME: the same hashes, twelve of them.
same() {
	none "$1" "$([ "$(wc -l <"$d/$2.hash")" -eq 12 ] || echo 'not 12 runs'; diff "$d/$2.hash" "$d/$3.hash")"
}

plan $((4 * ($(echo "$isas" | wc -w) + 1) + 3))
for setting in plain pressure spec latent; do
	case $setting in
	plain) set -- ;;
	pressure) set -- -s "$pressure" -s router.memory_pressure=auto -s memory.demote_cold_after_steps=2 \
		-s record.block_events=true -s record.page_events=true ;;
	spec) set -- -s specattn.enabled=true -s specattn.gamma=2 -s specattn.top_k_blocks=2 -s model.executed_layers=4 ;;
	latent) set -- -s model.latent_dim=64 -s model.rope_dim=16 -s model.kv_heads=1 -s "$pressure" ;;
	esac
	hashes $setting "$@" -s attention.threads=1
	hashes again "$@" -s attention.threads=1
	same "$setting: the same run twice" $setting again
	for isa in $isas; do
		INTENTKV_ISA=$isa
		export INTENTKV_ISA
		hashes again "$@" -s attention.threads=2
		unset INTENTKV_ISA
		same "$setting: two threads, $isa" $setting again
	done
done
hashes again -s seed=8
none "another seed gives other hashes" "$(paste "$d/plain.hash" "$d/again.hash" | awk '$1 == $2')"
none "pressure changes what happens" "$(paste "$d/plain.hash" "$d/pressure.hash" | awk '$1 == $2')"
none "hashes of all points differ" "$(sort "$d/plain.hash" | uniq -d)"
