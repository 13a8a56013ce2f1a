module ambit.dev/e2e/cluster/pause

go 1.21
