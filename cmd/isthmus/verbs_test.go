// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// providerAndConsumer applies the examples.
func providerAndConsumer(t *testing.T) {
	t.Helper()
	does(t, "apply -f ../../examples/api/accounts.yaml -f ../../examples/api/provider.yaml -f ../../examples/api/consumer.yaml --wait")
}

// TestEditedFileIsRefusedWhenLate gives back what get has written, before and after somebody else has changed it.
func TestEditedFileIsRefusedWhenLate(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	file := filepath.Join(t.TempDir(), "web.yaml")
	text := does(t, "get sg web --account 111122223333 -o yaml")
	edited := strings.Replace(text, "clients of the provider's site", "edited", 1)
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := does(t, "update sg web --account 111122223333 -o yaml -f "+file); !strings.Contains(out, "description: edited\n") {
		t.Errorf("updated to\n%s", out)
	}
	fails(t, exitConflict, "update sg web --account 111122223333 -f "+file, "changed")
}

// TestJSONIsTakenBack applies what get has written as JSON: nothing changes.
func TestJSONIsTakenBack(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	for _, form := range []string{"json", "yaml"} {
		file := filepath.Join(t.TempDir(), "all."+form)
		if err := os.WriteFile(file, []byte(does(t, "get all -o "+form)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := does(t, "diff -f "+file); out != "" {
			t.Errorf("%s is different:\n%s", form, out)
		}
	}
}

// TestImportBringsBackAnExport moves everything to another daemon.
func TestImportBringsBackAnExport(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	want := does(t, "export")
	file := filepath.Join(t.TempDir(), "export.yaml")
	if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, &fakeDaemon{})
	if out := does(t, "import --wait -f "+file); out != "imported 15 resources\n" {
		t.Errorf("import said %q", out)
	}
	if got := does(t, "export"); stable(got) != stable(want) {
		t.Errorf("after the import the export is\n%s\nwant\n%s", got, want)
	}
	fails(t, exitConflict, "import -f "+file, "already")
	fails(t, exitDenied, "import --as 111122223333 -f "+file, "operators")
}

// stable leaves out of an export what says when the store took a resource.
func stable(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if field, _, _ := strings.Cut(strings.TrimSpace(line), ":"); field != "etag" && field != "revision" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestRequestsWithAnIDAreOne(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	line := "create vpc --account 111122223333 --cidr 10.9.0.0/16 -o name --request-id once"
	if first, second := does(t, line), does(t, line); first != second {
		t.Errorf("made %s and %s", first, second)
	}
	fails(t, exitInvalid, strings.Replace(line, "10.9", "10.8", 1), "request_id")
}

// TestCompletion asks for words as shells do.
func TestCompletion(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	for line, want := range map[string][]string{
		"get en":                                       {"endpoint-services", "endpoints"},
		"get endpoint --as 111122223333 ":              {"web"},
		"get --as 111122223333 ep/":                    {"ep/web"},
		"describe vpc ":                                {"accounts/111122223333/vpcs/home", "accounts/444455556666/vpcs/shop"},
		"delete sg --as 111122223333 web ":             {"sg-00000000000000009"},
		"get --account ":                               {"111122223333", "444455556666"},
		"get vpc -o ":                                  {"json", "name", "table", "wide", "yaml"},
		"accept --as 444455556666 ":                    {"site", "vpce-0000000000000000c"},
		"accept --as 444455556666 site ":               {"vpce-0000000000000000c"},
		"connections --as 444455556666 ":               {"site"},
		"register --as 444455556666 ":                  {"servers"},
		"offers --as 111122223333 ":                    {"com.amazonaws.vpce.local-1.vpce-svc-00000000000000006"},
		"watch rou":                                    {"route-tables"},
		"create endpoint --as 111122223333 --subnet ":  {"a"},
		"create endpoint --as 111122223333 --service ": {"com.amazonaws.vpce.local-1.vpce-svc-00000000000000006"},
		"create endpoint --type ":                      {"GatewayLoadBalancer", "Interface"},
		"create endpoint-service --as 444455556666 --load-balancer ": {"front"},
		"create vpc --cidr ":           nil,
		"update tg --as 444455556666 ": {"servers"},
		"export ":                      {"111122223333", "444455556666"},
		"get vpc --socket /nowhere ":   nil,
	} {
		args := append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)
		_, out, _ := execute(args...)
		words := strings.Split(strings.TrimSpace(out), "\n")
		words = words[:len(words)-1] // the directive
		prefix := line[strings.LastIndexByte(line, ' ')+1:]
		words = slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, prefix) })
		slices.Sort(words)
		if !slices.Equal(words, want) {
			t.Errorf("%q completes to %q, want %q", line, words, want)
		}
	}
}

// TestRefusedStatusNamesTheAccount acts as nobody.
func TestRefusals(t *testing.T) {
	serve(t, &fakeDaemon{})
	providerAndConsumer(t)
	fails(t, exitInvalid, "get vpcs --as nobody", "12 digits")
	fails(t, exitDenied, "get vpcs --as 111122223333 --account 444455556666", "not yours")
	fails(t, exitUsage, "delete vpc", "name what to delete")
	fails(t, exitUsage, "delete vpc home -f x", "not both")
	fails(t, exitUsage, "delete vpc home --output json", "unknown flag")
	fails(t, exitUsage, "get vpc/a/b", "names no resource")
	fails(t, exitUsage, "create", "name a kind")
	fails(t, exitFailed, "apply -f "+t.TempDir(), "has no file that ends")
	fails(t, exitConflict, "delete vpc home --as 111122223333", "first")
	fails(t, exitInvalid, "watch --revision 99", "")
	fails(t, exitNotFound, "register nothing 10.0.0.1 --as 444455556666", "there is no accounts/444455556666/targetGroups/nothing")
	fails(t, exitUsage, "register servers 10.0.0.x --as 444455556666", "ADDRESS:PORT")
}

// TestPartsOfImports cuts what is too long for one message.
func TestPartsOfImports(t *testing.T) {
	m := &apiv1.Manifest{Account: "111122223333"}
	for range 3 {
		m.Vpcs = append(m.Vpcs, &apiv1.VPC{Name: strings.Repeat("x", partBytes/2)})
	}
	m.Subnets = []*apiv1.Subnet{{Name: "a"}}
	parts := partsOf(m)
	if len(parts) != 3 || len(parts[2].Subnets) != 1 || parts[1].Account != m.Account {
		t.Errorf("%d parts", len(parts))
	}
}
