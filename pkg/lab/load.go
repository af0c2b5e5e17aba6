// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Load reads a topology from a YAML file and completes it. A field that does not exist, or a value of the wrong form,
// is refused with its line.
func Load(file string) (*Topology, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	t, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("topology %s: %w", file, err)
	}
	return t, nil
}

// Parse is Load for the content of a file.
func Parse(content []byte) (*Topology, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is nothing in it; begin with the lab's name and vpcs")
		}
		return nil, plain(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second document; write one lab a file")
	}
	// The decoder of a node cannot refuse unknown fields, and that of text cannot tell the line of a bad address.
	if err := checkAddresses(&document); err != nil {
		return nil, err
	}
	t := new(Topology)
	strict := yaml.NewDecoder(bytes.NewReader(content))
	strict.KnownFields(true)
	if err := strict.Decode(t); err != nil {
		return nil, plain(err)
	}
	if err := t.Complete(); err != nil {
		return nil, err
	}
	return t, nil
}

// YAML writes the topology so that Parse reads it again, defaults included if it is complete.
func (t *Topology) YAML() ([]byte, error) {
	return yaml.Marshal(t)
}

// UnmarshalYAML reads a duration with its unit.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	value, err := time.ParseDuration(node.Value)
	if err != nil || value < 0 {
		return fmt.Errorf("line %d: %q is not a duration; write one with its unit, such as 350s", node.Line, node.Value)
	}
	*d = Duration(value)
	return nil
}

// MarshalYAML writes the duration in seconds.
func (d Duration) MarshalYAML() (any, error) {
	return strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64) + "s", nil
}

var goType = regexp.MustCompile(` in type \S+$`)

// plain makes the decoder's messages speak of the file alone, not of our types.
func plain(err error) error {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, message := range list.Errors {
		errs = append(errs, errors.New(goType.ReplaceAllString(message, ": there is no such field here")))
	}
	return errors.Join(errs...)
}

// checkAddresses finds the fields that hold addresses and prefixes, by their names, and reads them.
func checkAddresses(node *yaml.Node) error {
	var errs []error
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			errs = append(errs, checkAddress(child.Value, node.Content[i+1]))
		}
		errs = append(errs, checkAddresses(child))
	}
	return errors.Join(errs...)
}

func checkAddress(field string, node *yaml.Node) error {
	switch field {
	case "address", "gateway":
		if _, err := netip.ParseAddr(node.Value); err != nil {
			return fmt.Errorf("line %d: %s %q is not an address; write one such as 10.0.1.10", node.Line, field, node.Value)
		}
	case "cidr", "ipv6_cidr", "destination":
		if _, err := netip.ParsePrefix(node.Value); err != nil {
			return fmt.Errorf("line %d: %s %q is not a prefix; write one such as 10.0.1.0/24", node.Line, field, node.Value)
		}
	}
	return nil
}
