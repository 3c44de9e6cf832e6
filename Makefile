# Two commands matter: `make demo` shows what Hansa does, `make test` runs all
# tests. Both need Go and nothing else.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
SEED    ?= 1
FUZZTIME ?= 10s
SOAK    ?= 8760h

MIXED := examples/mixed/build

.PHONY: build examples examples-mixed demo test check race fuzz lint bench sim soak clean

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
	  for i in web counter; do docker build -q -t hansa-mixed/$$i -f examples/mixed/$$i/Dockerfile $(MIXED) || exit 1; done; \
	else echo "no Docker Engine answers: the images hansa-mixed/web and hansa-mixed/counter are not made"; fi

demo: build examples ## lose a site, cut a site off, heal
	bin/hansa-testbed demo --hansa bin/hansa --shop examples/shop/shop.yaml

test: examples ## every test that CI runs
	CGO_ENABLED=0 $(GO) test -timeout 25m $$($(GO) list ./... | grep -v '/testbed/sim$$')
	CGO_ENABLED=0 $(GO) test -timeout 25m ./testbed/sim # takes all cores by itself

check: lint race fuzz ## test, and then all that takes longer

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

race: examples
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./...

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "fuzz $$package $$target"; \
	    CGO_ENABLED=0 $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

bench: ## the figures of docs/PERFORMANCE.md
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./...

sim: ## replay one seed of the simulation with its trace: make sim SEED=n
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSim$$' -sim.seed=$(SEED) -v

soak: ## seeds from a random one on, for SOAK=10m or until one fails
	CGO_ENABLED=0 $(GO) test ./testbed/sim -run '^TestSoak$$' -sim.soak=$(SOAK) -timeout 0 -v

clean:
	rm -rf bin examples/shop/build examples/search/build $(MIXED)
