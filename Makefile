# Damask. `make help` lists what can be asked for.
#
# Everything works from a clean clone on Debian 12 with Go and root: packages
# that are missing are installed first, without starting their services.

SHELL       := /bin/bash
MODULES     := proto internal cmd services/ipam services/tenancy services/servicelb services/egress services/nodeagent deploy test
TOOLS       := $(CURDIR)/.cache/tools
BINARIES    := damask damask-nats damask-ipam damask-tenancy damask-servicelb damask-egress damask-nodeagent damask-cni damask-egress-router damask-ovs damask-cni-install damask-certificates damask-node-certificate

# Programs and tests are built in one way: what both are made of is compiled once.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -trimpath -tags=grpcnotrace '-ldflags=-s -w'
# A test of the real thing is never skipped here: a missing part is a failure.
export DAMASK_REQUIRE_REAL := 1
export PATH := $(TOOLS):/usr/sbin:/sbin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build images chart test-images demo demo-down test test-unit test-kills test-race test-kubernetes deploy-check test-kubelets test-lab test-long test-kernel test-datapaths kube-binaries fuzz check fix bench bench-kubernetes generate packages clean \
        check-format check-vet check-lint check-generated check-proto check-tidy check-alone \
        fix-format fix-tidy release-proto

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that are missing (services are not started)
	@tools/install-packages.sh

build: ## Build every binary into bin/
	@mkdir -p bin
	@go build -buildvcs=auto -o bin/ ./cmd/... ./services/ipam/cmd/... ./services/tenancy/cmd/... ./services/servicelb/cmd/... ./services/egress/cmd/... ./services/nodeagent/cmd/...
	@ls $(addprefix bin/,$(BINARIES)) >/dev/null

# Images: archives in the layout of the OCI specification, without a registry or a daemon.
IMAGES      := $(CURDIR)/.cache/images
REGISTRY    ?= localhost
TAG         ?= dev

images: build ## Write a container image of each program to .cache/images (REGISTRY= and TAG= name them)
	@go run ./deploy/images -programs bin -out $(IMAGES) -packages $(IMAGES)/packages -registry '$(REGISTRY)' -tag '$(TAG)' \
	  -version "$$(git describe --always --tags --dirty)" -created "$$(git log -1 --format=%ct)"

# The chart's images are called what `make images` calls them with the same REGISTRY and TAG.
CHART       := $(CURDIR)/.cache/chart

chart: ## Write the Helm chart to .cache/chart (REGISTRY= and TAG= say which images it is for)
	@go run ./deploy/chart/write -out $(CHART) -registry '$(REGISTRY)' -tag '$(TAG)' -version "$$(git describe --always --tags --dirty)"

test-images: images ## Each image is valid, is built again with the same bytes, and its programs run in it
	DAMASK_IMAGES=$(IMAGES) go test -count=1 -timeout 10m ./deploy/images

demo: packages build ## Start a cluster of three nodes and show real packets, in plain words
	@examples/demo.sh

demo-down: ## Stop the demo's cluster; nothing is left behind
	@bin/damask lab down --name demo

test: packages build test-unit test-lab ## Everything that must pass: unit, real OVS, real packets

test-unit: ## Tests of each package, with real OVS, iptables and NATS where they matter
	go test -vet=off -p 4 -timeout 20m -skip '$(KILLS)|OnKubernetes' $$(go list $(UNITS) | grep -vxFf <($(ON_KUBERNETES) | grep -vE '$(MIXED)')) ./test/traces/... ./test/ancestor/... ./test/repocheck/...
	cd test/policyoracle && GOWORK=off go test -vet=off -timeout 10m ./...

UNITS := $(addsuffix /...,$(addprefix ./,$(filter-out test,$(MODULES))))
# Replicas of a service that are killed while thousands of requests are answered.
KILLS := KilledReplicas|UnderKill9

test-kills: ## Replicas of every service killed (SIGKILL) while thousands of requests are answered
	go test -vet=off -p 1 -timeout 20m -run '$(KILLS)' $(addprefix ./services/,ipam/killtest tenancy servicelb egress)

# What starts processes of ours and looks at them from outside has nothing to find in itself.
FROM_OUTSIDE := cmd/damask/internal/cli$$|services/ipam/killtest

test-race: packages ## The tests of each package again, with the race detector
	CGO_ENABLED=1 go test -race -p 4 -timeout 30m -skip OnKubernetes $$(go list $(UNITS) | grep -vE '$(FROM_OUTSIDE)' | grep -vxFf <($(ON_KUBERNETES) | grep -vE '$(MIXED)'))

# Packages whose tests start a Kubernetes API server. Its programs take long to build,
# so these tests are not part of `make test`. A service's own package and the CLI's have others
# too: there these have OnKubernetes in their names.
ON_KUBERNETES = go list -test -f '{{if .ForTest}}{{.ForTest}} {{join .Deps " "}} {{end}}' $(UNITS) | awk '/internal\/kubetest / {print $$1}' | sort -u
MIXED := /(services/[a-z]+|internal/cli)$$

kube-binaries: ## Build Kubernetes' programs and etcd for tests; once, and long
	@test/kubernetes/build.sh .cache/kubernetes

test-kubernetes: packages build kube-binaries ## Tests of what adapts Damask to Kubernetes, on a real API server; then whole clusters that follow one
	go test -count=1 -p 2 -timeout 20m $$($(ON_KUBERNETES) | grep -vE '$(MIXED)')
	go test -count=1 -p 2 -timeout 20m -run OnKubernetes $$($(ON_KUBERNETES) | grep -E '$(MIXED)')
	@$(MAKE) --no-print-directory test-lab RUN=OnKubernetes

deploy-check: kube-binaries ## A real API server has nothing against the manifests, each overlay with each option; Helm installs, upgrades and uninstalls the chart
	go test -count=1 -timeout 10m -v ./deploy/check

test-kubelets: packages images kube-binaries ## Damask installed on three real kubelets with containerd, and pods on them (RUN=regexp picks some)
	@tools/install-packages.sh kubelets
	go test -count=1 -p 1 -timeout 30m $(if $(RUN),-run '$(RUN)') -v ./test/kubelets/... 2>&1 | grep --line-buffered -vE '^=== (RUN|PAUSE|CONT|NAME)'; exit $${PIPESTATUS[0]}

# Suites of a minute and more each, that `make test` leaves to `make test-long`.
LONG_SUITES := RandomHistories|ServicesChangeUnderLoad|GoOnWithoutTheControlServices|TenThousand|ThousandPods|TableOfServiceBehaviours|HostOfAnEgressIP|WhatServesEgressIPs|HostPorts|Multicast|PoliciesLetPass|EgressFirewalls|EgressRoutersThatAreProxies|RandomPolicies|PoliciesOfEveryKind|ConnectionsThatPolicies|WhatAPolicyForbids|WhatChangedWithout|DecisionsOfPolicies|TakenOver

test-long: build ## The whole-cluster suites that take longest
	@DAMASK_SEEDS=$${DAMASK_SEEDS:-2,3} $(MAKE) --no-print-directory test-lab RUN='$(LONG_SUITES)'

test-lab: build ## Whole clusters in network namespaces, driven through bin/damask (RUN=regexp picks some)
	go test -count=1 -p 1 -timeout 40m $(if $(RUN),-run '$(RUN)',-skip '$(LONG_SUITES)|OnKubernetes') -v ./test/lab/... 2>&1 | grep --line-buffered -vE '^=== (RUN|PAUSE|CONT|NAME)'; exit $${PIPESTATUS[0]}

# What runs on the kernel's datapath when RUN does not say, and what besides when both are
# compared: the tables of packets. Each word is for a virtual machine of its own: LIMIT is
# for one, and what they take is in test/kernel/README.md.
KERNEL_SUITES := ObservedWalks|ObservedNat|EveryPair|EveryTunnel \
                 WhatDiffers|StayOpenWhileTenants|ByHandIsRepaired|KillingTheAgent
KERNEL_TABLES := TableOfServiceBehaviours \
                 ServicesAreReached|HostPortsLead|MulticastReaches \
                 OutsideSeesExactly|EgressFirewallsHold|PoliciesLetPass
VM            := $(CURDIR)/.cache/kernel/test
# What a lab starts or opens again and again: the virtual machine gets copies.
EMPTY         :=
COMMA         := ,
NEAR          := bash cat conntrack ethtool ip ip6tables iptables iptables-legacy iptables-nft iptables-restore iptables-save \
                 modprobe nft ovs-appctl ovs-dpctl ovs-ofctl ovs-vsctl ovs-vswitchd ovsdb-client ovsdb-server ovsdb-tool ping sleep true \
                 /etc/ld.so.cache /etc/nsswitch.conf /etc/passwd /etc/protocols /etc/services \
                 /usr/lib/x86_64-linux-gnu/xtables /usr/share/openvswitch/vswitch.ovsschema \
                 $(addprefix $(CURDIR)/bin/,$(BINARIES)) $(VM)/probe $(VM)/judge $(VM)/lab.test
# A machine without the kernel's module runs the tests on it in a virtual machine.
IN_VM          = $(VM)/run -cache $(CURDIR)/.cache/kernel -near $(subst $(EMPTY) $(EMPTY),$(COMMA),$(strip $(NEAR))) -limit $(or $(LIMIT),15m) -env DAMASK_DATAPATH,DAMASK_PROBE,DAMASK_ORACLE,DAMASK_SEED,DAMASK_SETS,DAMASK_CONNECTIONS,DAMASK_PACE,DAMASK_CALM,DAMASK_PATIENCE,DAMASK_REQUIRE_REAL
LAB_TEST       = $(VM)/lab.test -test.v -test.timeout $(or $(LIMIT),15m) -test.run "$$suites"
EACH_SUITES    = for suites in $(foreach suites,$(or $(RUN),$(1)),'$(suites)')
# An emulated processor has less to give.
PATIENTLY     := DAMASK_PACE=5ms DAMASK_CALM=50ms DAMASK_PATIENCE=3s DAMASK_CONNECTIONS=60
BRIEFLY       := grep --line-buffered -vE '^=== (RUN|PAUSE|CONT|NAME)'

$(VM)/lab.test: FORCE
	@tools/install-packages.sh kernel
	@mkdir -p $(VM)
	@cd test/policyoracle && GOWORK=off go build -o $(VM)/judge ./judge
	@go build -o $(VM)/run ./test/kernel && go build -o $(VM)/probe ./test/probe && go test -c -o $@ ./test/lab

test-kernel: build $(VM)/lab.test ## Whole clusters on the kernel's datapath, in virtual machines (RUN=regexp picks some)
	@cd test/lab && export DAMASK_DATAPATH=system $(PATIENTLY) DAMASK_PROBE=$(VM)/probe DAMASK_ORACLE=$(VM)/judge && : >$(VM)/system.log && code=0 && \
	  $(call EACH_SUITES,$(KERNEL_SUITES)); do \
	    $(IN_VM) $(LAB_TEST) 2>&1 | tee -a $(VM)/system.log | $(BRIEFLY); ended=$${PIPESTATUS[0]}; test $$code -ne 0 || code=$$ended; \
	  done; exit $$code

test-datapaths: build $(VM)/lab.test ## The same on both datapaths, and one table of the results
	@cd test/lab && export DAMASK_PROBE=$(VM)/probe DAMASK_ORACLE=$(VM)/judge && : >$(VM)/netdev.log && : >$(VM)/system.log && \
	  $(call EACH_SUITES,$(KERNEL_SUITES) $(KERNEL_TABLES)); do { \
	    DAMASK_DATAPATH=netdev $(LAB_TEST) 2>&1 | tee -a $(VM)/netdev.log; \
	    DAMASK_DATAPATH=system $(PATIENTLY) $(IN_VM) $(LAB_TEST) 2>&1 | tee -a $(VM)/system.log; } | $(BRIEFLY); \
	  done; true
	@go run ./test/kernel/compare netdev=$(VM)/netdev.log system=$(VM)/system.log

.PHONY: FORCE
FORCE:

fuzz: packages ## Fuzz every parser and every wire, FUZZTIME each (10s)
	@FUZZTIME=$(or $(FUZZTIME),10s) tools/fuzz.sh

bench: packages build ## Print the table of measurements; each is a ratio to a baseline of the same run
	go run ./test/bench

bench-kubernetes: packages build kube-binaries ## The same of what Damask costs on Kubernetes, beside a real API server: services, four nodes, a large cluster's objects (RUN=Objects, Nodes or Memory: a part)
	go run ./test/bench kubernetes $(RUN)

check: check-format check-vet check-lint check-proto check-generated check-tidy check-alone ## What must hold besides the tests

check-format: ## gofmt has nothing to say
	@out=$$(git ls-files '*.go' | grep -v '\.pb\.go$$' | xargs gofmt -l); test -z "$$out" || { echo "not gofmt-clean (make fix):"; echo "$$out"; exit 1; }

check-vet: ## go vet over every module
	go vet work
	cd test/policyoracle && GOWORK=off go vet ./...

check-lint: $(TOOLS)/staticcheck ## staticcheck over every module
	@set -e; for m in $(MODULES); do (cd $$m && staticcheck ./...); done
	cd test/policyoracle && GOWORK=off staticcheck ./...

check-proto: $(TOOLS)/buf ## buf lint, and no breaking change against the released API
	cd proto && buf lint && buf breaking --against released.binpb

check-generated: $(TOOLS)/buf ## What is committed and generated is what would be generated today
	@tools/check-generated.sh

check-tidy: ## Every go.mod is tidy and all modules agree on versions
	@set -e; for m in $(MODULES) test/policyoracle; do (cd $$m && GOWORK=off go mod tidy -diff) || { echo "$$m: not tidy (make fix)"; exit 1; }; done

check-alone: ## Every module builds without the workspace
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off go build ./... && GOWORK=off go vet ./... ) || { echo "$$m: does not build alone"; exit 1; }; done

fix: fix-format fix-tidy generate ## Mend what check finds where a tool can

fix-format: ## gofmt -w
	@git ls-files '*.go' | grep -v '\.pb\.go$$' | xargs gofmt -w

fix-tidy: ## go mod tidy in every module
	@set -e; for m in $(MODULES) test/policyoracle test/kubernetes; do (cd $$m && GOWORK=off go mod tidy); done; go work sync

generate: $(TOOLS)/buf ## Generate Go from the protos, and CustomResourceDefinitions from their Go types
	cd proto && buf generate
	tools/generate-crds.sh internal/kube/networkv1 internal/kube/networkv1 deploy/crds

release-proto: $(TOOLS)/buf ## Make the present API the one that later changes must not break
	cd proto && buf build -o released.binpb

$(TOOLS)/buf $(TOOLS)/staticcheck &: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && GOWORK=off go build -o $(TOOLS)/ tool
	@touch $(TOOLS)/*

clean: ## Remove what was built
	rm -rf bin .cache
