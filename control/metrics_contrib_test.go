// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/isthmus-net/isthmus/dataplane"
)

const (
	alertFile     = "../contrib/prometheus/alerts.yaml"
	dashboardFile = "../contrib/grafana/isthmus.json"
)

// query is an expression in contrib, and the labels that texts beside it take from its result.
type query struct {
	where, expr string
	shown       []string
}

// alertQueries reads the alert rules.
func alertQueries(t *testing.T) (queries []query) {
	data, err := os.ReadFile(alertFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			q := query{where: r.Alert, expr: r.Expr}
			for _, text := range r.Annotations {
				for _, m := range used.FindAllStringSubmatch(text, -1) {
					q.shown = append(q.shown, m[1])
				}
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s has no severity or no summary", r.Alert)
			}
			queries = append(queries, q)
		}
	}
	return queries
}

// dashboardQueries reads the dashboard: its panels, and the lists that one chooses from.
func dashboardQueries(t *testing.T) (queries []query) {
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	legend := regexp.MustCompile(`{{(\w+)}}`)
	for _, p := range file.Panels {
		for _, target := range p.Targets {
			q := query{where: p.Title, expr: target.Expr}
			for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				q.shown = append(q.shown, m[1])
			}
			queries = append(queries, q)
		}
	}
	list := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range file.Templating.List {
		if m := list.FindStringSubmatch(v.Definition); m != nil {
			queries = append(queries, query{where: v.Name, expr: m[1], shown: m[2:]})
		}
	}
	return queries
}

// ofPrometheus are the labels that Prometheus adds to every series.
var ofPrometheus = []string{"instance", "job"}

var (
	selector = regexp.MustCompile(`\b([a-zA-Z_:][\w:]*)(?:{([^}]*)})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) ?\(([^)]*)\)`)
)

// labelsOfMetric are the labels of a metric, or of a sum or count of one; ok says whether it is known.
func labelsOfMetric(name string) (labels []string, ok bool) {
	for _, d := range described {
		summary := d.Desc == descBatch || d.Desc == descRequestTime
		if name == d.name || summary && (name == d.name+"_sum" || name == d.name+"_count") {
			return slices.Concat(d.labels, ofPrometheus), true
		}
	}
	return nil, false
}

// check holds an expression against the metrics that there are.
func (q *query) check(known map[string]bool) (faults []string) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var all []string
	for _, m := range selector.FindAllStringSubmatch(q.expr, -1) {
		if !strings.HasPrefix(m[1], "isthmus_") {
			continue
		}
		labels, ok := labelsOfMetric(m[1])
		if !ok {
			fail("there is no metric %s", m[1])
			continue
		}
		known[strings.TrimSuffix(strings.TrimSuffix(m[1], "_sum"), "_count")] = true
		all = append(all, labels...)
		for _, by := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, by[1]) {
				fail("%s has no label %s", m[1], by[1])
			}
			if by[1] == "reason" && !strings.HasPrefix(m[1], "isthmus_port_") && !hasReason(by[3]) {
				fail("there is no reason %s", by[3])
			}
		}
	}
	if len(all) == 0 && len(faults) == 0 {
		fail("it names no metric of ours")
	}
	for _, m := range grouping.FindAllStringSubmatch(q.expr, -1) {
		for _, label := range strings.Split(m[1], ",") {
			if !slices.Contains(all, strings.TrimSpace(label)) {
				fail("no metric in it has the label %s", label)
			}
		}
	}
	// What an aggregation does not keep, its result does not have.
	kept := all
	if m := regexp.MustCompile(`^(?:8 \* )?(?:topk\(10, )?sum by \(([^)]*)\)`).FindStringSubmatch(q.expr); m != nil {
		kept = strings.Split(m[1], ", ")
	}
	for _, label := range q.shown {
		if !slices.Contains(kept, label) {
			fail("the text beside it shows the label %s, which the result has not", label)
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(q.expr, pair[:1]) != strings.Count(q.expr, pair[1:]) {
			fail("its %s do not pair", pair)
		}
	}
	return faults
}

// hasReason says whether each alternative of a pattern fits a reason of the dataplane.
func hasReason(pattern string) bool {
	for _, part := range strings.Split(pattern, "|") {
		fits := regexp.MustCompile("^(?:" + part + ")$")
		found := false
		for r := range dataplane.NumReasons {
			found = found || fits.MatchString(dataplane.Reason(r).String())
		}
		if !found {
			return false
		}
	}
	return true
}

// TestContrib holds the alert rules and the dashboard against the metrics that there are.
func TestContrib(t *testing.T) {
	known := map[string]bool{}
	for _, q := range slices.Concat(alertQueries(t), dashboardQueries(t)) {
		for _, fault := range q.check(known) {
			t.Errorf("%s: %s: %s", q.where, fault, q.expr)
		}
	}
	if len(known) < len(described)/2 {
		t.Errorf("only %d of %d metrics are used", len(known), len(described))
	}
}

// TestContribReadme holds the metrics that the text names against those that there are.
func TestContribReadme(t *testing.T) {
	text, err := os.ReadFile("../contrib/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`[^`]*isthmus_[a-z_]+[^`*]*`").FindAllString(string(text), -1) {
		q := query{expr: strings.Trim(m, "`")}
		for _, fault := range q.check(map[string]bool{}) {
			t.Errorf("%s: %s", m, fault)
		}
	}
}

// TestContribCheckSees has the check find what is wrong.
func TestContribCheckSees(t *testing.T) {
	for expr, want := range map[string]string{
		`isthmus_nothing`:              "there is no metric isthmus_nothing",
		`isthmus_flows_sum`:            "there is no metric isthmus_flows_sum",
		`isthmus_flows{eni="x"}`:       "isthmus_flows has no label eni",
		`sum by (eni) (isthmus_flows)`: "no metric in it has the label eni",
		`rate(isthmus_dropped_packets_total{reason="nonsense"}[5m])`:             "there is no reason nonsense",
		`rate(isthmus_dropped_packets_total{reason=~"too-big|nonsense-.*"}[5m])`: "there is no reason",
		`up == 0`:               "it names no metric of ours",
		`sum(isthmus_flows`:     "do not pair",
		`sum(isthmus_flows > 1`: "do not pair",
	} {
		q := query{expr: expr}
		if got := strings.Join(q.check(map[string]bool{}), "; "); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
	q := query{expr: `sum by (reason) (isthmus_dropped_packets_total)`, shown: []string{"instance"}}
	if len(q.check(map[string]bool{})) == 0 {
		t.Error("a label that the sum does not keep passed")
	}
}

// TestContribWithPromtool has Prometheus's own tool read the rules and the dashboard's expressions, where it is installed
// (Debian package prometheus).
func TestContribWithPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it is in the Debian package prometheus")
	}
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for i, q := range dashboardQueries(t) {
		expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$endpoint", ".*").Replace(q.expr)
		rules = append(rules, rule{fmt.Sprintf("dashboard:%d", i), expr})
	}
	data, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	dashboard := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(dashboard, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{alertFile, dashboard} {
		if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	}
}
