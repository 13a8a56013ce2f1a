module ambit.dev/e2e/cluster/nsfwd

go 1.21
