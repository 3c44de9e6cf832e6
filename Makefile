# Two commands matter: `make demo` shows what Hansa does, `make test` runs all
# tests. Both need Go and nothing else.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
SEED    ?= 1
FUZZTIME ?= 10s
SOAK    ?= 8760h

# Four packages at a time share the cores: first those that mostly wait, whose gaps
# the others fill, then the one that computes longest, so that nothing long is left
# for the end. The simulation takes all that it gets, and comes by itself.
FIRST    := ./testbed/process ./node/driver/docker ./node/driver/process ./node/driver/qemu ./testbed/fleet
PACKAGES  = $(shell $(GO) list $(FIRST)) $(shell $(GO) list ./... | grep -vE '/testbed/(process|fleet|sim)$$|/node/driver/(docker|process|qemu)$$')

# What has no goroutine has no race: the core, which TestPlacementIsPure holds to
# that, and its simulation, each run of which is a world of its own.
RACELESS := /placement$$|/testbed/sim$$|/examples/
RACEABLE  = $(shell printf '%s\n' $(PACKAGES) | grep -vE '$(RACELESS)')

# Timers of one synctest bubble that end on two cores at once corrupt the race
# detector's own stack (golang/go#78156). It finds races as well on one.
BUBBLES   = $(shell $(GO) list $$(grep -rl --include='*_test.go' '"testing/synctest"' . | xargs -n 1 dirname | sort -u))

MIXED := examples/mixed/build

.PHONY: build examples examples-mixed demo test check race fuzz lint bench sim more soak clean

build: ## bin/hansa and bin/hansa-testbed, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./node/cmd/hansa ./testbed/cmd/hansa-testbed

examples: ## the programs of examples: functions and a server
	CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -ldflags '-s -w' -o examples/shop/build/api.wasm ./examples/shop/api
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o examples/shop/build/meter ./examples/shop/meter
	CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -buildmode=c-shared -ldflags '-s -w' -o examples/search/build/search.wasm ./examples/search

examples-mixed: build ## the app of all kinds: also images (docker) and a machine's files (apt)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(MIXED)/ ./examples/mixed/web ./examples/mixed/counter ./examples/mixed/machine
	CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -ldflags '-s -w' -o $(MIXED)/price.wasm ./examples/mixed/price
	bin/hansa-testbed guest --init $(MIXED)/machine --out $(MIXED)
	@if docker version >/dev/null 2>&1; then \
	  for i in web counter; do docker build -q -t hansa-mixed/$$i -f examples/mixed/$$i/Dockerfile $(MIXED) && \
	    docker save -o $(MIXED)/$$i.tar hansa-mixed/$$i || exit 1; done; \
	else echo "no Docker Engine answers: the images $(MIXED)/web.tar and counter.tar are not made"; fi

demo: build examples ## lose a site, cut a site off, heal
	bin/hansa-testbed demo --hansa bin/hansa --shop examples/shop/shop.yaml

test: examples ## every test that CI runs
	CGO_ENABLED=0 $(GO) test -timeout 30m $(PACKAGES)
	CGO_ENABLED=0 $(GO) test -timeout 25m ./testbed/sim

check: lint race fuzz more ## test, and then all that takes longer

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

race: examples
	CGO_ENABLED=1 $(GO) test -race -short -vet=off -timeout 30m $(filter-out $(BUBBLES),$(RACEABLE))
	CGO_ENABLED=1 $(GO) test -race -short -vet=off -timeout 30m -cpu 1 $(filter $(BUBBLES),$(RACEABLE))

fuzz: ## every fuzz target for FUZZTIME, two at a time
	@GO=$(GO) .ci/fuzz $(FUZZTIME)

bench: ## the figures of docs/PERFORMANCE.md
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./...

sim: ## replay one seed of the simulation with its trace: make sim SEED=n
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSim$$' -sim.seed=$(SEED) -v

more: ## what make test has fewer of: seeds of the simulation, to the 5,000th, and peers
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSim$$' -sim.from=2001 -sim.seeds=3000 -timeout 25m
	CGO_ENABLED=0 $(GO) test ./testbed/fleet -run '^TestFleet$$' -peers 50 -timeout 25m

soak: ## seeds from a random one on, for SOAK=10m or until one fails
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSoak$$' -sim.soak=$(SOAK) -timeout 0 -v

clean:
	rm -rf bin examples/shop/build examples/search/build $(MIXED)
