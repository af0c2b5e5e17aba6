// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package labapi

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// TestManifest has every resource of the examples once, and lets each service be found by the endpoints beside it.
func TestManifest(t *testing.T) {
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples (%v)", err)
	}
	for _, file := range files {
		topology, err := lab.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := topology.Resources("/run/lab")
		if err != nil {
			t.Fatal(err)
		}
		m := Manifest(topology.Name, list)
		if n := count(m); n != len(list) {
			t.Errorf("%s: %d resources of %d are in the manifest", file, n, len(list))
		}
		services := map[string]bool{}
		for _, s := range m.EndpointServices {
			services[s.Name] = true
		}
		for _, e := range m.Endpoints {
			if !services[e.ServiceName] {
				t.Errorf("%s: endpoint %s asks for %s", file, e.Name, e.ServiceName)
			}
		}
		data, err := codec.MarshalYAML(m)
		if err != nil {
			t.Fatal(err)
		}
		var again apiv1.Manifest
		if err := codec.UnmarshalYAML(file, data, &again); err != nil || !proto.Equal(m, &again) {
			t.Errorf("%s: the manifest is another one when it is written as YAML and read again (%v)", file, err)
		}
	}
}

// count is how many resources a manifest has.
func count(m *apiv1.Manifest) (n int) {
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsList() {
			n += v.List().Len()
		}
		return true
	})
	return n
}

// TestManifestOfOneAccount leaves the name of a service alone that is another account's.
func TestManifestOfOneAccount(t *testing.T) {
	topology, err := lab.Load("../../../examples/two-vpcs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := topology.Resources("/run/lab")
	if err != nil {
		t.Fatal(err)
	}
	var mine []resource.Resource
	for _, r := range list {
		if r.Metadata().Account == lab.Consumer {
			mine = append(mine, r)
		}
	}
	m := Manifest("mine", mine)
	if len(m.Endpoints) != 1 || !strings.HasSuffix(m.Endpoints[0].ServiceName, topology.Services[0].ID) {
		t.Errorf("the consumer's manifest has the endpoints %v", m.Endpoints)
	}
}

func TestID(t *testing.T) {
	if got := ID("accounts/111122223333/endpoints/web"); got != "web" {
		t.Errorf("the id is %q", got)
	}
}
