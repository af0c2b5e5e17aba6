// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The targets check the header's CRC as well, and close connections without a header.
func proxyHeader(ctx context.Context, b *Bed) (string, error) {
	ids := map[string]int{}
	n, err := b.visitAll(ctx, portWeb, func(v *visit) error {
		p := v.answer.Proxy
		if p == nil {
			return errors.New("the target saw no header")
		}
		id := b.topology.Endpoints[v.endpoint].ID
		if p.Source != v.local.String() || p.Destination != v.to.String() || p.EndpointID != id {
			return fmt.Errorf("the header says %s to %s by %s, true is %s to %s by %s",
				p.Source, p.Destination, p.EndpointID, v.local, v.to, id)
		}
		ids[id]++
		return nil
	})
	if err != nil {
		return "", err
	}
	if len(ids) != 2 {
		return "", fmt.Errorf("there are two endpoints, %d ids were seen", len(ids))
	}
	return fmt.Sprintf("%d headers right, of %d endpoints", n, len(ids)), nil
}

// The server says what the header said before the client has sent anything.
func greeting(ctx context.Context, b *Bed) (string, error) {
	to := b.endpoint(1, 1, portGreeting)
	l, err := b.line(ctx, "client-4", to)
	if err != nil {
		return "", err
	}
	defer l.Close()
	want := fmt.Sprintf("src=%s dst=%s endpoint=%s", l.local(), to, b.topology.Endpoints[1].ID)
	if l.proxy != want {
		return "", fmt.Errorf("the server saw %q, true is %q", l.proxy, want)
	}
	if err := l.echo("and what the client says comes after it"); err != nil {
		return "", err
	}
	return "greeted with " + l.proxy[:strings.Index(l.proxy, " endpoint=")], nil
}
