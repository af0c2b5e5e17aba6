// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the path that all packages of this project begin with.
const module = "github.com/isthmus-net/isthmus"

// mayImport says which packages of the project a package may import: imports run one way. The key is a package or,
// ending in /..., a package and all below it; the longest that fits rules. A package that is not listed fails the test:
// whoever adds one decides where it stands.
var mayImport = map[string][]string{
	"cmd/...":               {"control/...", "bench", "dataplane/...", "pkg/..."},
	"cmd/isthmus":           {"cmd/isthmus/...", "control/...", "bench", "dataplane/...", "pkg/..."},
	"cmd/isthmus/demo":      {"cmd/isthmus/appliance", "cmd/isthmus/labapi", "control/...", "dataplane/...", "pkg/..."},
	"cmd/isthmus/appliance": {"pkg/wire", "pkg/netns"},
	"control/store":         {},
	"control/...":           {"control/...", "dataplane", "dataplane/port", "pkg/vpc/...", "pkg/netns", "pkg/wire"},
	"control/api/...":       {"control/api/state/v1"},
	"control/integration":   {"control/...", "dataplane/...", "bench/fleet", "bench/steady", "pkg/..."},
	"dataplane":             {"dataplane/port", "dataplane/flow", "dataplane/balance", "pkg/vpc", "pkg/wire"},
	"dataplane/port/...":    {"dataplane/port", "pkg/wire"},
	"dataplane/flow":        {},
	"dataplane/balance":     {},
	"pkg/vpc":               {},
	"pkg/vpc/resource":      {"pkg/vpc"},
	"pkg/wire":              {},
	"pkg/pkttest":           {},
	"pkg/netns":             {},
	"pkg/netns/netnstest":   {"pkg/netns"},
	"pkg/lab/...":           {"pkg/lab/...", "pkg/netns", "pkg/vpc/..."},
	"bench":                 {"bench/...", "control/...", "dataplane", "dataplane/port", "pkg/..."},
	"bench/fleet":           {"control/api/..."},
	"bench/null":            {},
	"bench/steady":          {"pkg/netns", "pkg/wire"},
	"scripts":               {},
}

// testsMayImport is what tests may import beyond that: the doubles and tools that lie below everything, and the states
// of a flow to compare with.
var testsMayImport = []string{"dataplane", "dataplane/port", "dataplane/flow", "pkg/..."}

// outside says which packages may import a module that is not the project's. What is not listed is free. Tests are
// free too: those of a port need more of the kernel than pkg/netns offers.
var outside = map[string][]string{
	"github.com/vishvananda/netlink":      {"pkg/netns"},
	"github.com/vishvananda/netns":        {"pkg/netns"},
	"github.com/gopacket/gopacket":        {"pkg/pkttest", "dataplane/port/...", "bench", "cmd/..."},
	"github.com/prometheus/client_golang": {"control/...", "cmd/..."},
	"google.golang.org/grpc":              {"control/...", "bench", "cmd/..."},
	"google.golang.org/protobuf":          {"control/...", "cmd/..."},
	"github.com/spf13/cobra":              {"cmd/..."},
}

// onlyStandard are the packages that stand on the standard library, each with its exceptions.
var onlyStandard = map[string][]string{
	"pkg/vpc":          nil,
	"pkg/vpc/resource": nil,
	"pkg/wire":         {"golang.org/x/sys/cpu"}, // which instructions there are, as the standard library asks it
	"dataplane/flow":   nil,
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		allowed, ok := lookup(p.path)
		if !ok {
			t.Errorf("%s is not in the table of imports: decide what it may import and add it", p.path)
			continue
		}
		for _, imported := range p.Imports {
			checkImport(t, p.path, imported, allowed, false)
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			checkImport(t, p.path, imported, slices.Concat(allowed, testsMayImport, []string{p.path}), true)
		}
	}
}

func checkImport(t *testing.T, importer, imported string, allowed []string, test bool) {
	t.Helper()
	if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
		if !matchesAny(allowed, inside) {
			t.Errorf("%s must not import %s; it may import %s", importer, inside, list(allowed))
		}
		return
	}
	for library, users := range outside {
		if imported != library && !strings.HasPrefix(imported, library+"/") {
			continue
		}
		if !test && !matchesAny(users, importer) {
			t.Errorf("%s must not import %s; only %s may", importer, imported, list(users))
		}
	}
	except, bound := onlyStandard[importer]
	standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
	if !test && bound && !standard && !slices.Contains(except, imported) {
		t.Errorf("%s must not import %s: it stands on the standard library", importer, imported)
	}
}

// lookup finds the longest entry of mayImport that fits.
func lookup(importer string) (allowed []string, ok bool) {
	if allowed, ok = mayImport[importer]; ok {
		return allowed, true
	}
	for dir := importer; dir != "."; dir = path.Dir(dir) {
		if allowed, ok = mayImport[dir+"/..."]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
			return pkg == dir || strings.HasPrefix(pkg, dir+"/")
		}
		return pkg == pattern
	})
}

func list(patterns []string) string {
	if len(patterns) == 0 {
		return "nothing of the project"
	}
	return strings.Join(patterns, ", ")
}

// Gopacket is for capture only where packets are carried.
func TestGopacketStaysOutOfThePath(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || path.Dir(f.path) != "dataplane/port" || path.Base(f.path) == "pcap.go" {
			continue
		}
		for _, spec := range f.syntax.Imports {
			if strings.Contains(spec.Path.Value, "gopacket") {
				t.Errorf("%s imports %s: of this package only pcap.go may", f.path, spec.Path.Value)
			}
		}
	}
}
