// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DaemonConfig is the daemon's configuration file, in YAML. Everything may be left out: then only root may call, as an
// operator, and only by the unix socket.
type DaemonConfig struct {
	// Region is that of the names of services; default local-1.
	Region string `yaml:"region"`
	// Partition is that of ARNs; default aws.
	Partition string `yaml:"partition"`
	// ServicePrefix begins the names of services; default com.amazonaws.vpce.
	ServicePrefix string `yaml:"service_prefix"`
	// Callers say as whom users and groups act that come by the unix socket.
	Callers []CallerConfig `yaml:"callers"`
	// Operators are ARNs of principals that see and change what all accounts own.
	Operators []string `yaml:"operators"`
	// Namespaces says to which network namespaces accounts may attach. Only operators may to others.
	Namespaces []NamespaceConfig `yaml:"namespaces"`
	// TLS opens a TCP port; there is none without it.
	TLS *TLSConfig `yaml:"tls"`
}

// CallerConfig is a Caller.
type CallerConfig struct {
	UID       *uint32 `yaml:"uid"`
	Group     string  `yaml:"group"`
	Account   string  `yaml:"account"`
	Principal string  `yaml:"principal"`
	Operator  bool    `yaml:"operator"`
}

// NamespaceConfig lets an account attach to namespaces: paths, in which * stands for any part of a name (path.Match).
type NamespaceConfig struct {
	Account string   `yaml:"account"`
	Paths   []string `yaml:"paths"`
}

func (n *NamespaceConfig) check() error {
	if !accountPattern.MatchString(n.Account) {
		return fmt.Errorf("account: %q is not 12 digits", n.Account)
	}
	for _, p := range n.Paths {
		if _, err := path.Match(p, "/"); err != nil || !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("paths: %q is not a plain absolute path, in which * stands for any part of a name", p)
		}
	}
	return nil
}

// MayAttach says whether an account may attach to the namespace at a path, as resource.Config asks it. Links are not
// followed: who may replace one of the paths decides what is there.
func (c *DaemonConfig) MayAttach(account, netns string) bool {
	for i := range c.Namespaces {
		n := &c.Namespaces[i]
		if n.Account != account {
			continue
		}
		for _, p := range n.Paths {
			if ok, err := path.Match(p, netns); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// TLSConfig is the address to listen on, with its port, and the paths of files; those that are not absolute are beside
// the configuration file.
type TLSConfig struct {
	Address     string `yaml:"address"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ClientCA    string `yaml:"client_ca"`
	ClientCRL   string `yaml:"client_crl"`
}

// Files are the paths as TLS takes them.
func (c *TLSConfig) Files() TLSFiles {
	return TLSFiles{Certificate: c.Certificate, Key: c.Key, ClientCA: c.ClientCA, ClientCRL: c.ClientCRL}
}

// LoadConfig reads a configuration file. Its errors name the file and the line.
func LoadConfig(file string) (*DaemonConfig, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the daemon's configuration: %w", err)
	}
	c, err := ParseConfig(filepath.Base(file), data)
	if err != nil {
		return nil, err
	}
	if c.TLS != nil {
		for _, f := range []*string{&c.TLS.Certificate, &c.TLS.Key, &c.TLS.ClientCA, &c.TLS.ClientCRL} {
			if *f != "" && !filepath.IsAbs(*f) {
				*f = filepath.Join(filepath.Dir(file), *f)
			}
		}
	}
	return c, nil
}

// goType is what the decoder says of an unknown field for programmers.
var goType = regexp.MustCompile(` (in|into)( type)? apiserver\.\w+`)

// ParseConfig decodes a configuration, fills in defaults and checks it. Name is what errors call the file. An empty one is
// good.
func ParseConfig(name string, data []byte) (*DaemonConfig, error) {
	c := &DaemonConfig{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "unmarshal errors:\n  ", ""), "yaml: ")
		return nil, fmt.Errorf("%s: %s", name, goType.ReplaceAllString(text, ""))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: a second document begins; a configuration is one document", name)
	}
	for _, f := range []struct {
		value     *string
		otherwise string
	}{{&c.Region, "local-1"}, {&c.Partition, "aws"}, {&c.ServicePrefix, "com.amazonaws.vpce"}} {
		if *f.value == "" {
			*f.value = f.otherwise
		}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range c.Callers {
		caller := c.caller(i)
		if err := caller.check(c.Partition); err != nil {
			return nil, fmt.Errorf("%s: line %d: callers[%d]: %w", name, lineOf(&doc, "callers", i), i, err)
		}
	}
	for i, arn := range c.Operators {
		if _, err := accountOf(arn, c.Partition); err != nil {
			return nil, fmt.Errorf("%s: line %d: operators[%d]: %w", name, lineOf(&doc, "operators", i), i, err)
		}
	}
	for i := range c.Namespaces {
		if err := c.Namespaces[i].check(); err != nil {
			return nil, fmt.Errorf("%s: line %d: namespaces[%d]: %w", name, lineOf(&doc, "namespaces", i), i, err)
		}
	}
	if err := c.TLS.check(); err != nil {
		return nil, fmt.Errorf("%s: line %d: tls: %w", name, lineOf(&doc, "tls", 0), err)
	}
	return c, nil
}

// lineOf is where a field at the top of a document stands, or an item of its list.
func lineOf(doc *yaml.Node, field string, item int) int {
	top := doc.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i].Value != field {
			continue
		}
		if value := top.Content[i+1]; value.Kind == yaml.SequenceNode && item < len(value.Content) {
			return value.Content[item].Line
		}
		return top.Content[i].Line
	}
	return top.Line
}

// check wants every path but that of revocations, and an address of which the user has chosen the host.
func (c *TLSConfig) check() error {
	if c == nil {
		return nil
	}
	for _, f := range []struct{ name, value string }{
		{"certificate", c.Certificate}, {"key", c.Key}, {"client_ca", c.ClientCA},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is missing; give the path of a file in PEM", f.name)
		}
	}
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("address: %q is not HOST:PORT; write 0.0.0.0 for all addresses of the machine", c.Address)
	}
	return nil
}

func (c *DaemonConfig) caller(i int) Caller {
	f := &c.Callers[i]
	return Caller{UID: f.UID, Group: f.Group, Account: f.Account, Principal: f.Principal, Operator: f.Operator}
}

// CallerTable is the callers, as Options has them.
func (c *DaemonConfig) CallerTable() []Caller {
	callers := make([]Caller, len(c.Callers))
	for i := range callers {
		callers[i] = c.caller(i)
	}
	return callers
}
