# Scenarios and generator profiles.
nobase_dist_pkgdata_DATA += \
	scenarios/README.md scenarios/captured-session.yaml scenarios/customer-service.yaml \
	scenarios/host-tier.yaml scenarios/latent-attention.yaml scenarios/long-research-128k.yaml scenarios/memory-pressure.yaml scenarios/quickstart.yaml \
	scenarios/trace-mooncake.yaml scenarios/trace-openai-chat.yaml scenarios/trace-weka.yaml
