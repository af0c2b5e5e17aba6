// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// Several connections are open at once, each with many requests, so that they would change places if they could.
func sticky(ctx context.Context, b *Bed) (string, error) {
	const connections, requests = 6, 50
	type held struct {
		*call
		first lab.Answer
	}
	var all []held
	for range connections {
		c, err := b.dial(ctx, "client-1", b.endpoint(0, 0, portWeb))
		if err != nil {
			return "", err
		}
		defer c.Close()
		all = append(all, held{call: c})
	}
	for n := range requests {
		for i := range all {
			answer, err := all[i].ask()
			if err != nil {
				return "", fmt.Errorf("request %d of connection %d: %w", n+1, i+1, err)
			}
			if n == 0 {
				all[i].first = answer
			}
			if answer.Instance != all[i].first.Instance || answer.Remote != all[i].first.Remote {
				return "", fmt.Errorf("connection %d moved from %s to %s", i+1, all[i].first.Instance, answer.Instance)
			}
		}
	}
	return fmt.Sprintf("%d keep-alive connections of %d requests, none moved", connections, requests), nil
}

// The bounds are 4.5 standard deviations of a fair choice among three on either side.
func balance(ctx context.Context, b *Bed) (string, error) {
	const connections, least, most = 300, 63, 137
	count, err := b.spread(ctx, "client-1", b.endpoint(0, 0, portLine), connections)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("%d connections: %d, %d, %d", connections, count[targets[0]], count[targets[1]], count[targets[2]])
	for _, t := range targets {
		if count[t] < least || count[t] > most {
			return "", fmt.Errorf("%s; each target should get %d to %d", figure, least, most)
		}
	}
	return figure, nil
}

func zones(ctx context.Context, b *Bed) (string, error) {
	const connections = 60
	if err := b.changeBalancer(ctx, "nlb", func(lb *apiv1.LoadBalancer) { lb.CrossZone = false }); err != nil {
		return "", err
	}
	var here [2]map[string]int
	for zone := range here {
		var err error
		if here[zone], err = b.spread(ctx, "client-1", b.endpoint(0, zone, portLine), connections); err != nil {
			return "", err
		}
	}
	figure := fmt.Sprintf("zone 1: %d, %d, %d; zone 2: %d, %d, %d",
		here[0][targets[0]], here[0][targets[1]], here[0][targets[2]],
		here[1][targets[0]], here[1][targets[1]], here[1][targets[2]])
	if here[0]["target-3"] > 0 || here[0]["target-1"] == 0 || here[0]["target-2"] == 0 || here[1]["target-3"] != connections {
		return "", fmt.Errorf("%s; zone 1 has the first two targets, zone 2 the third", figure)
	}
	return figure, nil
}
