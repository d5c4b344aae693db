set xlabel 'moved or rewritten a step (MiB)'
array part[5] = ['fetched on demand', 'prefetched', 'evicted', 'streamed or refetched', 're-encoded']
