package repocheck

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var (
	metricInText = regexp.MustCompile(`damask_[a-z0-9_]+`)
	wholeMetric  = regexp.MustCompile(`^damask_[a-z0-9_]*[a-z0-9]$`)
	metricPrefix = regexp.MustCompile(`^damask_[a-z0-9_]*_$`)
	metricRest   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// metrics answers the names of all metrics in the code: whole names in a metric's
// options or description, and names that a package puts together of a prefix and what a
// function of the package is called with first.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	prefixes, rests := map[string][]string{}, map[string][]string{} // by directory
	for _, module := range []string{"internal", "services"} {
		err := filepath.WalkDir(filepath.Join(root, module), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			dir := filepath.Dir(path)
			ast.Inspect(file, func(n ast.Node) bool {
				for _, text := range namesIn(n) {
					if wholeMetric.MatchString(text) {
						names[text] = true
					} else if metricPrefix.MatchString(text) {
						prefixes[dir] = append(prefixes[dir], text)
					}
				}
				if rest, ok := calledWith(n); ok {
					rests[dir] = append(rests[dir], rest)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, list := range prefixes {
		for _, prefix := range list {
			for _, rest := range rests[dir] {
				names[prefix+rest] = true
			}
		}
	}
	return names
}

// namesIn answers the texts in a node that says what a metric is called: the field Name
// of its options, or an argument of NewDesc or of a function that is called with whole
// names.
func namesIn(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
			return texts(n.Value)
		}
	case *ast.CallExpr:
		if len(n.Args) > 1 {
			return texts(n.Args[0])
		}
	}
	return nil
}

// texts answers the text that an expression is, or that it begins with.
func texts(e ast.Expr) []string {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		e = sum.X
	}
	if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
		if text, err := strconv.Unquote(literal.Value); err == nil {
			return []string{text}
		}
	}
	return nil
}

// calledWith answers what a function of the package is called with first, if that can be
// the rest of a metric's name.
func calledWith(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 2 {
		return "", false
	}
	if _, local := call.Fun.(*ast.Ident); !local {
		return "", false
	}
	for _, text := range texts(call.Args[0]) {
		return text, metricRest.MatchString(text)
	}
	return "", false
}

// monitored is a PrometheusRule, as far as it matters here.
type monitored struct {
	Spec struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
}

func TestAlertsNameMetricsThatThereAre(t *testing.T) {
	known := metrics(t)
	content, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules monitored
	if err := yaml.Unmarshal(content, &rules); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || seen[rule.Alert] {
				t.Errorf("an alert has no name, or another's: %q", rule.Alert)
			}
			seen[rule.Alert] = true
			if s := rule.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", rule.Alert, s)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say what it means and what to do", rule.Alert)
			}
			queried(t, known, rule.Alert, rule.Expr)
		}
	}
	if len(seen) == 0 {
		t.Error("there are no alerts: this test looks at the wrong thing")
	}
}

func TestTheDashboardShowsMetricsThatThereAre(t *testing.T) {
	known := metrics(t)
	content, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		if (panel.Type == "row") != (len(panel.Targets) == 0) {
			t.Errorf("panel %q of type %s has %d queries", panel.Title, panel.Type, len(panel.Targets))
		}
		for _, target := range panel.Targets {
			queried(t, known, panel.Title, target.Expr)
		}
	}
	if len(dashboard.Panels) == 0 {
		t.Error("there are no panels: this test looks at the wrong thing")
	}
}

// queried fails for a query that names no metric, or one that there is not.
func queried(t *testing.T, known map[string]bool, who, query string) {
	t.Helper()
	found := metricInText.FindAllString(query, -1)
	if len(found) == 0 {
		t.Errorf("%s asks for no metric of ours: %s", who, query)
	}
	for _, name := range found {
		histogram := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if !known[name] && (histogram == name || !known[histogram]) {
			t.Errorf("%s: there is no metric %s", who, name)
		}
	}
}

func TestMetricsThatAreNotThereAreFound(t *testing.T) {
	known := metrics(t)
	for _, name := range []string{"damask_node_ready", "damask_node_egress_closed", "damask_nats_routes", "damask_rpc_calls_total", "damask_egress_nodes_down", "damask_node_service_lag_seconds"} {
		if !known[name] {
			t.Errorf("the code has %s, and it is not found", name)
		}
	}
	for _, name := range []string{"damask_node_happiness", "damask_ipam_ready", "damask_egress", "damask_node_"} {
		if known[name] {
			t.Errorf("%s is taken for a metric", name)
		}
	}
}
