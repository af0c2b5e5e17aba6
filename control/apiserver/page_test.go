// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// Pages end before they are larger than clients take, but have an item at least.
func TestPagesAreBoundedInBytes(t *testing.T) {
	sizes := []int{pageBytes / 2, pageBytes / 3, pageBytes / 3, 2 * pageBytes, 1, 1}
	items := make([]string, len(sizes))
	for i := range items {
		items[i] = fmt.Sprint(i)
	}
	var got []int
	for token := ""; ; {
		p, err := newPager(&apiv1.ListVPCsRequest{PageToken: token}, "vpcs")
		if err != nil {
			t.Fatal(err)
		}
		out, next := page(p, items, strings.Clone, func(item string) proto.Message {
			return &apiv1.VPC{Name: strings.Repeat("x", sizes[item[0]-'0'])}
		})
		got = append(got, len(out))
		if token = next; token == "" {
			break
		}
	}
	if fmt.Sprint(got) != "[2 1 1 2]" {
		t.Errorf("pages of %v items", got)
	}
}

func FuzzPageToken(f *testing.F) {
	p, _ := newPager(&apiv1.ListVPCsRequest{}, "vpcs")
	f.Add(p.token("111111111111/v"))
	f.Fuzz(func(t *testing.T, token string) {
		p, err := newPager(&apiv1.ListVPCsRequest{PageToken: token}, "vpcs")
		if err == nil && token != "" && p.token(p.after) != token {
			t.Errorf("%q is taken for %q", token, p.after)
		}
	})
}

// A path splits into steps that make it again, or is none.
func FuzzSplitPath(f *testing.F) {
	f.Add("metadata.tags.`a.b`")
	f.Add("a..b")
	f.Fuzz(func(t *testing.T, path string) {
		steps, ok := splitPath(path)
		if !ok {
			return
		}
		var quoted []string
		for _, step := range steps {
			quoted = append(quoted, "`"+step+"`")
		}
		if strings.Contains(strings.Join(steps, ""), "`") {
			return // an unquoted step may have a backtick inside
		}
		again, ok := splitPath(strings.Join(quoted, "."))
		if !ok || fmt.Sprint(again) != fmt.Sprint(steps) {
			t.Errorf("%q is %q, then %q", path, steps, again)
		}
	})
}
