// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

var update = flag.Bool("update", false, "rewrite testdata/ from what the dataplane does now")

// scenarios are all scenarios, in the order in which a newcomer might read them.
var scenarios = slices.Concat(connectionScenarios, refusalScenarios, proxyScenarios, earlyScenarios, viewScenarios, accessScenarios, limitScenarios, gatewayScenarios)

// provoked are the drops in the scenarios that have been told.
var provoked = map[string][NumReasons]uint64{}

// TestGolden tells every scenario and compares what goes in and out, and the counters after it, with testdata/NAME:
//
//	README.md          the sentence, and the packets as a diagram
//	state.json         the state at the beginning; state-2.json and so on are those that follow
//	in.PORT.pcap       packets that the port received, at their virtual times
//	out.PORT.pcap      packets that it sent
//	counters.json      what is not zero in the end
//
// With -update it writes them. Look at the difference before you keep it.
func TestGolden(t *testing.T) {
	known := map[string]bool{"fuzz": true, "rapid": true} // what tools put there
	for i := range scenarios {
		sc := &scenarios[i]
		known[sc.name] = !sc.noPcap
		t.Run(sc.name, func(t *testing.T) {
			s := tell(t, sc)
			provoked[sc.name] = s.engine.Stats().Drops
			for _, list := range s.out {
				for _, f := range list {
					pkttest.Verify(t, f.data)
				}
			}
			if !sc.noPcap {
				s.compare(filepath.Join("testdata", sc.name), s.render(sc))
			}
			if t.Failed() {
				t.Logf("%s\n%s", sc.about, &s.diagram)
			}
		})
	}
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !known[d.Name()] {
			t.Errorf("testdata/%s belongs to no scenario: remove it", d.Name())
		}
	}
}

// TestEveryReasonIsProvoked makes sure that a new Reason gets a scenario.
func TestEveryReasonIsProvoked(t *testing.T) {
	var drops [NumReasons]uint64
	for i := range scenarios {
		sc := &scenarios[i]
		if _, told := provoked[sc.name]; !told {
			provoked[sc.name] = tell(t, sc).engine.Stats().Drops
		}
		for r, n := range provoked[sc.name] {
			drops[r] += n
		}
	}
	for r := range drops {
		reason := Reason(r)
		if reason == Unexplained {
			if drops[r] > 0 {
				t.Errorf("%d drops without a reason", drops[r])
			}
			continue
		}
		if drops[r] == 0 {
			t.Errorf("no scenario provokes %v: %s", reason, reason.Sentence())
		}
		if reason.String() == "" || !strings.HasSuffix(reason.Sentence(), ".") {
			t.Errorf("reason %d has no symbol or no sentence", r)
		}
	}
}

// render is the content of all files of the scenario's folder.
func (s *story) render(sc *scenario) map[string][]byte {
	files := map[string][]byte{}
	files["README.md"] = fmt.Appendf(nil, "# %s\n\n%s\n\n```mermaid\n%s```\n", sc.name, sc.about, &s.diagram)
	for i, st := range s.states {
		name := "state.json"
		if i > 0 {
			name = fmt.Sprintf("state-%d.json", i+1)
		}
		files[name] = readableJSON(sparse(st))
	}
	for id, list := range s.in {
		files["in."+id+".pcap"] = pcapOf(list)
	}
	for id, list := range s.out {
		files["out."+id+".pcap"] = pcapOf(list)
	}
	files["counters.json"] = readableJSON(s.counters())
	return files
}

// sparse is the JSON form of a value without what is zero, so that a field which a scenario does not use leaves no trace.
func sparse(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // durations in nanoseconds are too long for a float
	if err := d.Decode(&tree); err != nil {
		panic(err)
	}
	return prune(tree)
}

// prune removes the members of objects that are zero, at any depth.
func prune(tree any) any {
	switch node := tree.(type) {
	case map[string]any:
		for k, v := range node {
			switch v := prune(v).(type) {
			case nil:
				delete(node, k)
			case map[string]any:
				if len(v) == 0 {
					delete(node, k)
				}
			default:
				if v == false || v == "" || v == json.Number("0") {
					delete(node, k)
				}
			}
		}
	case []any:
		for i := range node {
			node[i] = prune(node[i])
		}
	}
	return tree
}

// numbers is a list of numbers as json.MarshalIndent breaks it over lines.
var numbers = regexp.MustCompile(`\[\s*\d+(,\s*\d+)*\s*\]`)

func readableJSON(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	b = numbers.ReplaceAllFunc(b, func(list []byte) []byte { return bytes.Join(bytes.Fields(list), nil) })
	return append(b, '\n')
}

// counters are the counters that are not zero.
func (s *story) counters() map[string]any {
	st := s.engine.Stats()
	out := map[string]any{"drops": s.drops(), "flows": nonZero(st.Flows)}
	for _, n := range st.ENIs {
		drops := map[string]uint64{}
		for r, count := range n.Drops {
			if count > 0 {
				drops[Reason(r).String()] = count
			}
		}
		key := fmt.Sprintf("%v %s %v", n.Role, n.Owner, n.Address)
		out[key] = map[string]any{"traffic": nonZero(n.Traffic), "drops": drops}
	}
	for _, t := range st.Targets {
		counts := nonZero(t)
		delete(counts, "Group")
		delete(counts, "Address")
		out[fmt.Sprintf("target %s %v", t.Group, t.Address)] = counts
	}
	return out
}

// nonZero are the fields of a struct that are not zero.
func nonZero(v any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		panic(err)
	}
	for k, v := range all {
		if v == 0.0 || v == false || v == "" {
			delete(all, k)
		}
	}
	return all
}

// pcapOf is a capture of packets that start at the IP header, at times since an epoch of zero.
func pcapOf(list []frame) []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeRaw); err != nil {
		panic(err)
	}
	for _, f := range list {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(0, int64(f.at)), CaptureLength: len(f.data), Length: len(f.data)}
		if err := w.WritePacket(ci, f.data); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func framesOf(pcap []byte) (list []frame, err error) {
	r, err := pcapgo.NewReader(bytes.NewReader(pcap))
	if err != nil {
		return nil, err
	}
	for {
		b, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, frame{time.Duration(ci.Timestamp.UnixNano()), b})
	}
}

// compare compares the files with those of the folder, or writes them.
func (s *story) compare(dir string, files map[string][]byte) {
	s.Helper()
	if *update {
		s.rewrite(dir, files)
		return
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		s.Fatalf("%v; run go test ./dataplane -run Golden -update", err)
	}
	for _, f := range old {
		if files[f.Name()] == nil {
			s.Errorf("%s/%s is not written any more", dir, f.Name())
		}
	}
	for name, got := range files {
		want, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err != nil:
			s.Error(err)
		case bytes.Equal(want, got):
		case name == "README.md" && bytes.Equal(sentence(want), sentence(got)): // the rest follows from the packets
		case strings.HasSuffix(name, ".pcap"):
			s.comparePcap(name, want, got)
		default:
			s.Errorf("%s differs:\nwant %s\n got %s", name, want, got)
		}
	}
}

// sentence is what precedes the diagram in a README.md.
func sentence(readme []byte) []byte {
	before, _, _ := bytes.Cut(readme, []byte("```"))
	return before
}

// comparePcap says which packets differ, and how.
func (s *story) comparePcap(name string, want, got []byte) {
	s.Helper()
	w, err := framesOf(want)
	if err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	g, err := framesOf(got)
	if err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(w):
			s.Errorf("%s: packet %d is new: %s", name, i, pkttest.Describe(g[i].data))
		case i >= len(g):
			s.Errorf("%s: packet %d is missing: %s", name, i, pkttest.Describe(w[i].data))
		case w[i].at != g[i].at:
			s.Errorf("%s: packet %d is at %v, want %v", name, i, g[i].at, w[i].at)
		default:
			if d := pkttest.Diff(w[i].data, g[i].data); d != "" {
				s.Errorf("%s: packet %d:\n%s", name, i, d)
			}
		}
	}
}

func (s *story) rewrite(dir string, files map[string][]byte) {
	s.Helper()
	if err := os.RemoveAll(dir); err != nil {
		s.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, fs.FileMode(0o644)); err != nil {
			s.Fatal(err)
		}
	}
}
