-- run: One row per run: one scenario, or one point of its sweep.
CREATE TABLE run (
  run_id INTEGER PRIMARY KEY, -- number of the run in this file
  scenario_id INTEGER NOT NULL REFERENCES scenario (scenario_id), -- the scenario file it came from
  env_id INTEGER NOT NULL REFERENCES env (env_id), -- where and by which program it ran
  name TEXT NOT NULL, -- scenario name, with the sweep point's values
  point TEXT NOT NULL, -- the sweep point, such as quest budget=5%; empty without a sweep
  status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted')), -- running, done, failed or interrupted
  started_utc TEXT NOT NULL, -- begin, UTC, ISO 8601
  ended_utc TEXT, -- end, UTC, ISO 8601
  wall_ns INTEGER, -- measured duration of the whole run
  seed TEXT NOT NULL, -- seed, 16 hex digits
  router TEXT, -- router policy
  scorer TEXT, -- scorer policy
  source TEXT, -- where Q, K and V came from
  backend TEXT, -- attention backend
  isa TEXT, -- instruction set of the kernels
  execute TEXT, -- off, sampled or full attention
  ladder TEXT, -- ladder of formats
  model TEXT, -- model preset
  machine TEXT, -- machine profile of the cost model
  format TEXT, -- format of the trace the sessions came from
  threads INTEGER, -- threads of the backend
  params_hash TEXT NOT NULL, -- XXH3-64 of all parameters, 16 hex digits: equal for repetitions of a run
  point_key TEXT, -- digest of what decides the results: settings, contents of input files, version; 32 hex digits
  message TEXT -- why it failed
) STRICT;
CREATE INDEX run_by_point ON run (point_key);

-- run_param: Every setting of a run, in the text form a user would write.
CREATE TABLE run_param (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  key TEXT NOT NULL, -- such as router.top_k_blocks
  value TEXT NOT NULL, -- its value
  origin TEXT NOT NULL, -- default, scenario, command-line or sweep
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

-- scenario: Scenario files, word for word; runs of the same text share a row.
CREATE TABLE scenario (
  scenario_id INTEGER PRIMARY KEY, -- number of the scenario in this file; the one that was run last has the highest
  path TEXT NOT NULL, -- path as it was given
  text TEXT NOT NULL, -- the whole file
  hash TEXT NOT NULL UNIQUE -- XXH3-64 of the text, 16 hex digits
) STRICT;

-- env: One row per process that wrote runs.
CREATE TABLE env (
  env_id INTEGER PRIMARY KEY, -- number of the environment in this file
  host TEXT, -- host name
  os TEXT, -- operating system, release and architecture
  cpu TEXT, -- model name of the processor
  cores INTEGER, -- processors online
  memory_bytes INTEGER, -- main memory
  program TEXT NOT NULL, -- program and version
  compiler TEXT NOT NULL, -- compiler that built it
  sqlite TEXT NOT NULL, -- version of SQLite
  command TEXT, -- command line
  utc TEXT NOT NULL -- time of the first run, UTC, ISO 8601
) STRICT;

-- session: One row per session of a run.
CREATE TABLE session (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  session INTEGER NOT NULL, -- number of the session in the run, from 0
  id TEXT, -- its name in the trace
  task TEXT, -- task that groups trials
  tokens_by TEXT, -- how tokens were counted
  arrival_ms REAL, -- arrival from the start of the trace, ms
  reward REAL, -- reward that the trace gives
  turns INTEGER, -- requests
  appended_tokens INTEGER, -- tokens that entered by prefill
  decoded_tokens INTEGER, -- tokens that were generated
  longest_context INTEGER, -- tokens of the longest context
  compactions INTEGER, -- times the context was cut back
  PRIMARY KEY (run_id, session)
) STRICT, WITHOUT ROWID;

-- step: One row per decode step of one session. The columns up to sim_dense_ns are deterministic and make the canonical hash; those from mass_by on are measured.
CREATE TABLE step (
  step_id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
  session INTEGER NOT NULL,
  step INTEGER NOT NULL,
  batch_step INTEGER,
  turn INTEGER,
  context_tokens INTEGER,
  blocks INTEGER,
  pages INTEGER,
  selected_blocks INTEGER,
  selected_tokens INTEGER,
  selected_pages INTEGER,
  decision_hash TEXT,
  pressure REAL,
  occupancy REAL,
  dense_bytes INTEGER,
  request_bytes INTEGER,
  read_bytes INTEGER,
  hit_pages INTEGER,
  miss_pages INTEGER,
  fetch_bytes INTEGER,
  prefetch_bytes INTEGER,
  evict_bytes INTEGER,
  streamed_bytes INTEGER,
  recode_bytes INTEGER,
  refetch_bytes INTEGER,
  demotions INTEGER,
  promotions INTEGER,
  evictions INTEGER,
  prefetch_useful INTEGER,
  prefetch_late INTEGER,
  prefetch_wasted INTEGER,
  prefetch_missed INTEGER,
  fast_bytes INTEGER,
  slow_bytes INTEGER,
  pages_fp16 INTEGER,
  pages_fp8 INTEGER,
  pages_int8 INTEGER,
  pages_int4 INTEGER,
  pages_int4_residual INTEGER,
  pages_bf16 INTEGER,
  pages_kivi8 INTEGER,
  pages_kivi4 INTEGER,
  pages_kivi2 INTEGER,
  pages_sparse INTEGER,
  demote_after INTEGER,
  promote_after INTEGER,
  spec_verified INTEGER,
  sim_overhead_ns REAL,
  sim_attention_ns REAL,
  sim_weights_ns REAL,
  sim_recode_ns REAL,
  sim_transfer_ns REAL,
  sim_hidden_ns REAL,
  sim_exposed_ns REAL,
  sim_total_ns REAL,
  sim_dense_ns REAL,
  mass_by TEXT,
  mass_recall REAL,
  rel_l2 REAL,
  max_abs REAL,
  cosine REAL,
  kl REAL,
  spec_accept REAL,
  sim_executed_ns REAL,
  sim_outside INTEGER,
  wall_attention_ns REAL,
  wall_dense_ns REAL,
  wall_score_ns REAL,
  wall_route_ns REAL,
  wall_memory_ns REAL,
  wall_recode_ns REAL,
  wall_source_ns REAL,
  wall_mass_ns REAL,
  wall_measure_ns REAL,
  wall_device_ns REAL,
  wall_transfer_ns REAL,
  wall_hidden_ns REAL,
  wall_exposed_ns REAL,
  wall_evict_ns REAL
) STRICT;
CREATE INDEX step_by_key ON step (run_id, session, step);

-- step_role: What the tokens of one role got in one step; written where attention ran or its mass was modelled.
CREATE TABLE step_role (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
  session INTEGER NOT NULL,
  step INTEGER NOT NULL,
  kind TEXT NOT NULL,
  tokens INTEGER,
  selected_tokens INTEGER,
  read_bytes INTEGER,
  hit_pages INTEGER,
  miss_pages INTEGER,
  mass REAL,
  mass_selected REAL,
  PRIMARY KEY (run_id, session, step, kind)
) STRICT, WITHOUT ROWID;

-- step_layer: Per executed layer of a step where attention ran.
CREATE TABLE step_layer (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
  session INTEGER NOT NULL,
  step INTEGER NOT NULL,
  layer INTEGER NOT NULL,
  selected_fraction REAL,
  mass_recall REAL,
  rel_l2 REAL,
  max_abs REAL,
  cosine REAL,
  kl REAL,
  PRIMARY KEY (run_id, session, step, layer)
) STRICT, WITHOUT ROWID;

-- prefill: One row per prompt whose attention ran (attention.prefill); measured, no part of the canonical hash.
CREATE TABLE prefill (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
  session INTEGER NOT NULL,
  prompt INTEGER NOT NULL,
  turn INTEGER,
  tokens INTEGER,
  context_tokens INTEGER,
  sim_ns REAL,
  sim_executed_ns REAL,
  flops REAL,
  wall_ns REAL,
  rel_l2 REAL,
  PRIMARY KEY (run_id, session, prompt)
) STRICT, WITHOUT ROWID;

-- block_event: Opt-in log of the router's decisions, one row per block or piece of a block.
CREATE TABLE block_event (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  session INTEGER NOT NULL, -- the session
  step INTEGER NOT NULL, -- the decode step
  layer INTEGER NOT NULL, -- layer of the unit that decided
  head INTEGER NOT NULL, -- first query head of the unit
  start_token INTEGER NOT NULL, -- first token of the piece
  end_token INTEGER NOT NULL, -- one past its last token
  block TEXT NOT NULL, -- name of the block
  kind TEXT NOT NULL, -- role of the block
  policy TEXT NOT NULL, -- policy of the block
  decision TEXT NOT NULL, -- SELECT, QUANTIZE, PIN_HIGH_PRECISION or SKIP
  format TEXT NOT NULL, -- format asked for
  reason TEXT NOT NULL, -- why
  recent INTEGER NOT NULL, -- 1: the piece inside the recent window
  score REAL, -- relevance to the query, 0 to 1
  rank INTEGER, -- place among the scored blocks, from 0
  threshold REAL, -- bound the score was compared with
  selected_tokens INTEGER, -- tokens of the piece that are read
  PRIMARY KEY (run_id, session, step, layer, head, start_token)
) STRICT, WITHOUT ROWID;

-- page_event: Opt-in log of page moves and re-encodings, in the order they happened.
CREATE TABLE page_event (
  event_id INTEGER PRIMARY KEY, -- order of events
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  session INTEGER NOT NULL, -- the session
  step INTEGER NOT NULL, -- the decode step
  seq INTEGER NOT NULL, -- sequence of the memory manager
  page_group INTEGER NOT NULL, -- set of layers and heads that shares the page
  page INTEGER NOT NULL, -- logical page
  move TEXT NOT NULL, -- fetch, prefetch, evict, demote, promote, refetch or encode (a page's first format)
  from_format TEXT NOT NULL, -- stored format before
  to_format TEXT NOT NULL, -- stored format after
  from_tier INTEGER NOT NULL, -- tier before, 0 is the fastest
  to_tier INTEGER NOT NULL, -- tier after
  bytes INTEGER NOT NULL, -- that crossed the link or were rewritten
  accesses REAL -- of the page so far, each step of its sequence by memory.access_decay less
) STRICT;
CREATE INDEX page_event_by_step ON page_event (run_id, session, step);

-- calibration: One row per fit of the cost model to measured attention calls; a newer one does not replace an older.
CREATE TABLE calibration (
  calibration_id INTEGER PRIMARY KEY, -- number of the calibration in this file
  env_id INTEGER NOT NULL REFERENCES env (env_id), -- where and by which program it was made
  machine TEXT NOT NULL, -- name of the machine profile
  source TEXT NOT NULL, -- what was measured
  utc TEXT NOT NULL, -- when, UTC, ISO 8601
  backend TEXT, -- attention backend that was timed; NULL: figures of a file
  isa TEXT, -- instruction set of its kernels
  threads INTEGER, -- its threads
  cells INTEGER NOT NULL, -- kinds of call used in the fit
  held_cells INTEGER NOT NULL, -- kinds of call held out
  fit_error_pct REAL, -- mean relative error on the former, percent
  held_error_pct REAL, -- mean relative error on the latter, percent
  held_median_pct REAL -- their median
) STRICT;

-- calibration_constant: The constants of a calibration, as a machine profile has them.
CREATE TABLE calibration_constant (
  calibration_id INTEGER NOT NULL REFERENCES calibration (calibration_id) ON DELETE CASCADE, -- the calibration
  constant TEXT NOT NULL, -- such as read_bytes_per_s
  value REAL NOT NULL, -- its value; 0: not modelled
  PRIMARY KEY (calibration_id, constant)
) STRICT, WITHOUT ROWID;

-- calibration_cell: The kinds of call that a calibration measured, and what its constants predict for them.
CREATE TABLE calibration_cell (
  calibration_id INTEGER NOT NULL REFERENCES calibration (calibration_id) ON DELETE CASCADE, -- the calibration
  cell INTEGER NOT NULL, -- number of the kind of call, from 0
  shape TEXT NOT NULL, -- query heads/KV heads/dimension
  format TEXT NOT NULL, -- page format, or mixed
  selected TEXT NOT NULL, -- dense, or the share of pages read
  tokens INTEGER NOT NULL, -- of the context
  kv_bytes INTEGER NOT NULL, -- stored bytes read
  held_out INTEGER NOT NULL, -- 1: not used in the fit
  measured_ns REAL NOT NULL, -- median of several calls
  predicted_ns REAL NOT NULL, -- by the constants
  PRIMARY KEY (calibration_id, cell)
) STRICT, WITHOUT ROWID;

-- metric_def: What the columns of step, step_role, step_layer, prefill and of the query summary mean.
CREATE TABLE metric_def (
  table_name TEXT NOT NULL, -- table of the column, or summary
  name TEXT NOT NULL, -- column
  unit TEXT NOT NULL, -- unit; 1 for plain numbers
  better TEXT NOT NULL CHECK (better IN ('up', 'down', 'none')), -- which direction is better
  description TEXT NOT NULL, -- what it is
  PRIMARY KEY (table_name, name)
) STRICT, WITHOUT ROWID;

-- v_run: Runs with their scenario, environment and a label that is unique in the file.
CREATE VIEW v_run AS
SELECT r.*, s.path AS scenario_path, e.host, e.cpu, e.program,
  l.base || CASE WHEN count(*) OVER (PARTITION BY l.base) > 1 THEN ' #' || r.run_id ELSE '' END AS label
FROM run r JOIN scenario s USING (scenario_id) JOIN env e USING (env_id)
JOIN (SELECT run_id, CASE WHEN point <> '' THEN point ELSE name END AS base FROM run) l USING (run_id);

-- v_latest: The newest run of every point and setting of the scenario that was run or swept last, with unique labels.
CREATE VIEW v_latest AS
WITH newest AS (
  SELECT max(run_id) AS run_id FROM run
  WHERE scenario_id = (SELECT max(scenario_id) FROM run)
  GROUP BY point, params_hash),
base AS (
  SELECT r.run_id, CASE WHEN r.point <> '' THEN r.point ELSE r.name END AS base FROM run r JOIN newest USING (run_id))
SELECT run_id, base || CASE WHEN count(*) OVER (PARTITION BY base) > 1 THEN ' #' || run_id ELSE '' END AS label
FROM base;

-- v_step: Steps with their ratios: what was selected and read of dense, hits, and modelled speed-up.
CREATE VIEW v_step AS
SELECT *, 1.0 * selected_tokens / nullif(context_tokens, 0) AS selected_fraction,
  1.0 * read_bytes / nullif(dense_bytes, 0) AS read_fraction,
  1.0 * hit_pages / nullif(hit_pages + miss_pages, 0) AS hit_rate,
  sim_dense_ns / nullif(sim_total_ns, 0) AS sim_speedup
FROM step;
