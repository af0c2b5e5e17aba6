// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodConfig = `
region: us-east-1
callers:
  - uid: 1000
    account: "111111111111"
  - group: payments
    account: 022222222222
    principal: arn:aws:iam::022222222222:role/payments
  - {uid: 0, operator: true}
operators: ["arn:aws:iam::999999999999:user/ops"]
namespaces:
  - {account: "111111111111", paths: [/run/netns/app-*]}
tls:
  address: 127.0.0.1:7443
  certificate: tls/server.pem
  key: /etc/isthmus/server.key
  client_ca: tls/ca.pem
`

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "isthmusd.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &DaemonConfig{
		Region: "us-east-1", Partition: "aws", ServicePrefix: "com.amazonaws.vpce",
		Callers: []CallerConfig{
			{UID: uid(1000), Account: "111111111111"},
			{Group: "payments", Account: "022222222222", Principal: "arn:aws:iam::022222222222:role/payments"},
			{UID: uid(0), Operator: true},
		},
		Operators:  []string{"arn:aws:iam::999999999999:user/ops"},
		Namespaces: []NamespaceConfig{{Account: "111111111111", Paths: []string{"/run/netns/app-*"}}},
		TLS: &TLSConfig{Address: "127.0.0.1:7443", Certificate: filepath.Join(filepath.Dir(path), "tls/server.pem"),
			Key: "/etc/isthmus/server.key", ClientCA: filepath.Join(filepath.Dir(path), "tls/ca.pem")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if table := got.CallerTable(); len(table) != 3 || table[1].Group != "payments" {
		t.Errorf("callers %v", table)
	}
	for path, want := range map[string]bool{"/run/netns/app-1": true, "/run/netns/other": false, "/run/netns/app-1/x": false} {
		if got.MayAttach("111111111111", path) != want || got.MayAttach("222222222222", path) {
			t.Errorf("namespace %s is judged wrong", path)
		}
	}
	if files := got.TLS.Files(); files.Key != "/etc/isthmus/server.key" {
		t.Errorf("files %v", files)
	}
	empty, err := ParseConfig("empty", nil)
	if err != nil || empty.Region != "local-1" || empty.TLS != nil {
		t.Errorf("an empty file is %v, %v", empty, err)
	}
	if _, err := LoadConfig("/nonexistent"); err == nil {
		t.Error("no file is taken")
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown", "region: a\nregoin: b", "c.yaml: line 2: field regoin not found"},
		{"unknown inside", "callers:\n- uid: 1\n  acount: x", "c.yaml: line 3: field acount not found"},
		{"not a number", "callers:\n- uid: me", "c.yaml: line 2: cannot unmarshal !!str `me`"},
		{"no account", "callers:\n- {uid: 1, operator: true}\n- uid: 1", "c.yaml: line 3: callers[1]: account is missing"},
		{"no ARN", "operators:\n- me", "c.yaml: line 2: operators[0]: \"me\" is no principal"},
		{"no key", "region: a\ntls:\n  address: 127.0.0.1:1\n  certificate: a\n  client_ca: b", "c.yaml: line 2: tls: key is missing"},
		{"no account of namespaces", "namespaces:\n- paths: [/a]", "c.yaml: line 2: namespaces[0]: account: \"\" is not 12 digits"},
		{"no path", "namespaces:\n- {account: '111111111111', paths: [a/../b]}", "c.yaml: line 2: namespaces[0]: paths: \"a/../b\" is not a plain"},
		{"no host", "tls: {address: ':7443', certificate: a, key: b, client_ca: c}", "c.yaml: line 1: tls: address: \":7443\" is not HOST:PORT"},
		{"two documents", "region: a\n---\nregion: b", "c.yaml: a second document begins"},
		{"no mapping", "- a", "c.yaml: line 1: cannot unmarshal !!seq"},
		{"nothing good", "a: [", "c.yaml: line 1: did not find"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig("c.yaml", []byte(test.text))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "apiserver.") {
				t.Errorf("%v names a type", err)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("tls:\ncallers: null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig("c.yaml", data); (c == nil) == (err == nil) {
			t.Errorf("both or neither: %v, %v", c, err)
		}
	})
}
