# Two commands matter: `make demo` shows what Hansa does, `make test` runs all
# tests. Both need Go and nothing else.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
SEED    ?= 1
FUZZTIME ?= 10s
SOAK    ?= 8760h

# Twice as many packages at a time as there are cores: first those that mostly wait, whose
# gaps the others fill, with those that compute longest, so that nothing long is left for
# the end. The simulation takes all that it gets, and comes by itself.
ATATIME  := $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
FIRST    := ./testbed/process ./node/driver/qemu ./node/driver/docker ./testbed/fleet ./node/driver/process ./node ./gossip ./node/artifact ./node/driver/wasm ./store
SIM      := ./testbed/sim
PACKAGES  = $(shell $(GO) list $(FIRST)) $(filter-out $(shell $(GO) list $(FIRST) $(SIM)),$(shell $(GO) list ./...))

# What has no goroutine has no race, in its tests neither: the core, for one, which
# TestPlacementIsPure holds to that. Its simulation has only runs that are each a world
# of its own.
GOES     := ^\s*go (func|[a-zA-Z_.]+\()|\.Go\(|Parallel\(|synctest\.|AfterFunc\(|httptest\.NewServer
RACEABLE  = $(shell $(GO) list $(FIRST)) $(filter-out $(shell $(GO) list $(FIRST) $(SIM) ./examples/...),\
  $(shell $(GO) list $$(grep -rlE --include='*.go' '$(GOES)' . | xargs -n 1 dirname | grep -v /testdata/ | sort -u)))

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
	CGO_ENABLED=0 $(GO) test -vet=off -p $(ATATIME) -timeout 30m $(PACKAGES)
	CGO_ENABLED=0 $(GO) test -vet=off -timeout 25m $(SIM)

check: lint race fuzz more ## test, and then all that takes longer

lint: ## without cgo, as the tests are: what is compiled for one is there for the others
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...

# On one core each: timers of one synctest bubble that end on two at once corrupt the
# race detector's own stack (golang/go#78156), and it finds races as well on one.
race: examples
	CGO_ENABLED=1 $(GO) test -race -short -vet=off -p $(ATATIME) -cpu 1 -timeout 30m $(RACEABLE)

fuzz: ## every fuzz target for FUZZTIME, two at a time
	@GO=$(GO) .ci/fuzz $(FUZZTIME)

bench: ## the figures of docs/PERFORMANCE.md
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./...

sim: ## replay one seed of the simulation with its trace: make sim SEED=n
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSim$$' -sim.seed=$(SEED) -v

more: ## what make test has fewer of: seeds of the simulation, to the 5,000th
	CGO_ENABLED=0 $(GO) test -vet=off ./testbed/sim -run '^TestSim$$' -sim.from=2001 -sim.seeds=3000 -timeout 25m

soak: ## seeds from a random one on, for SOAK=10m or until one fails
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSoak$$' -sim.soak=$(SOAK) -timeout 0 -v

clean:
	rm -rf bin examples/shop/build examples/search/build $(MIXED)
