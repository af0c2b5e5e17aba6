// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// pageBytes is how large a page gets, unless one item alone is larger: clients take 4 MiB by default.
	pageBytes = 2 << 20
	// sumBytes is how much of a hash a token carries.
	sumBytes = 8
)

// pager cuts lists into pages. Its tokens hold the position of the last item that was sent, so that a list which changes
// in between neither repeats nor skips what was there all the time. They grant nothing: what a caller may see is decided
// anew for each page.
type pager struct {
	size  int
	after string // position of the last item that was sent; empty on the first page
	scope string // what the list is of: tokens are good for the same list only
}

type pageRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

func newPager(r pageRequest, scope ...string) (*pager, error) {
	p := &pager{size: int(r.GetPageSize()), scope: strings.Join(scope, "\x00")}
	switch {
	case p.size < 0:
		return nil, invalid("page_size", "%d is negative; leave it out, or ask for 1 to %d", p.size, maxPage)
	case p.size == 0:
		p.size = defaultPage
	}
	p.size = min(p.size, maxPage)
	if r.GetPageToken() == "" {
		return p, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	if err != nil || len(data) <= sumBytes || p.token(string(data[sumBytes:])) != r.GetPageToken() {
		return nil, invalid("page_token", "is not of this list; send the next_page_token of its last page, or none")
	}
	p.after = string(data[sumBytes:])
	return p, nil
}

func (p *pager) token(position string) string {
	sum := sha256.Sum256([]byte(p.scope + "\x00" + position))
	return base64.RawURLEncoding.EncodeToString(append(sum[:sumBytes], position...))
}

// page picks the items of a page and makes its token, empty on the last one. Items are sorted by their positions, which
// are unique and not empty.
func page[T any, M proto.Message](p *pager, items []T, position func(T) string, message func(T) M) (out []M, next string) {
	from, found := slices.BinarySearchFunc(items, p.after, func(item T, after string) int {
		return strings.Compare(position(item), after)
	})
	if found {
		from++
	}
	bytes := 0
	for i, item := range items[from:] {
		m := message(item)
		bytes += proto.Size(m)
		if i == p.size || i > 0 && bytes > pageBytes {
			return out, p.token(position(items[from+i-1]))
		}
		out = append(out, m)
	}
	return out, ""
}
