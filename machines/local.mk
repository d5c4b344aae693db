# Machine profiles: data for the cost model, see docs/cost-model.md.
nobase_dist_pkgdata_DATA += machines/h200.yaml machines/zen4-2core.yaml machines/rtx4090.yaml
