# SPDX-FileCopyrightText: The Isthmus Authors
# SPDX-License-Identifier: Apache-2.0

GO          ?= go
FUZZTIME    ?= 10s
BENCHFLAGS  ?= --duration 1s
CRASHES     ?= 1000
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build demo setup test crash bench fuzz lint clean

build: ## the program, in bin/
	$(GO) build -o bin/isthmus ./cmd/isthmus

demo: ## a consumer and a provider in namespaces, and a check for each rule
	$(GO) run ./cmd/isthmus lab demo

setup: ## the Debian packages that tests use
	scripts/setup.sh

test: setup ## every test, with the race detector
	$(GO) vet ./...
	$(GO) test -race -p 2 -timeout 12m ./...

crash: ## kill -9 the store's writer and the whole daemon CRASHES times each, at random moments, and look what is left
	ISTHMUS_CRASHES=$(CRASHES) $(GO) test -count=1 -timeout 60m -run '^Test(API)?Crash$$' -v ./control/store ./control/integration

bench: setup build ## a quick comparison with bare copiers, the kernel's NAT and VXLAN, and HAProxy
	bin/isthmus bench run --out bench/out $(BENCHFLAGS)

fuzz: ## each fuzz target for FUZZTIME
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r dir; do \
		grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -d' ' -f2 | while read -r target; do \
			echo "fuzz $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir; \
		done; \
	done

lint: ## vet, staticcheck, and the layout test
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -count=1 -short ./scripts

clean:
	rm -rf bin bench/out
