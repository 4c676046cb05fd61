package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// randomTopology has eight pods on two nodes, in three namespaces, and two hosts outside.
const randomTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: x}, {name: y}, {name: z}]
outside: [{name: outside, ip: 192.168.108.1}, {name: partner, ip: 192.168.108.2}]
`

const randomPods = 8

// randomPod is a pod of the drawn clusters. When it is replaced it keeps its name alone.
type randomPod struct {
	namespace, name, node string
	labels                map[string]string
	ports                 []object
	at                    *resident
}

func (p *randomPod) key() string { return p.namespace + "/" + p.name }

// policyWorld is a running lab, and what it should be: what the oracle is told.
type policyWorld struct {
	policyDraw
	*cluster
	judge *judge
	// tiers says whether there are policies of administrators; combined whether the mode
	// is, in which x and y are one tenant and z another.
	tiers, combined bool

	spaces   map[string]map[string]string // Labels, by name.
	pods     []*randomPod
	outside  map[string]*resident
	shells   []*conversation   // On the nodes.
	policies map[string]object // NetworkPolicies by NAMESPACE/NAME.
	admin    map[string]object // The others by name, as the oracle knows them.
	written  map[string]string // How they were written: their kinds in the cluster.
	tally
	mu sync.Mutex // Over what is counted while all are asked at once.
}

// apply stores policies, in one command.
func (w *policyWorld) apply(policies ...object) {
	w.t.Helper()
	var text strings.Builder
	for _, p := range policies {
		line, err := json.Marshal(p)
		if err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintf(&text, "---\n%s\n", line)
	}
	file := filepath.Join(w.t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.ctl("policy", "apply", "-f", file)
}

func (w *policyWorld) setPolicies(n int) {
	var drawn []object
	for range n {
		namespace, name := oneOf(&w.policyDraw, drawnSpaces...), fmt.Sprint("p", w.IntN(2))
		p := w.policy(namespace, name, w.tiers)
		w.policies[namespace+"/"+name] = p
		drawn = append(drawn, p)
	}
	w.apply(drawn...)
}

func (w *policyWorld) deletePolicy() {
	if len(w.policies) > 0 {
		key := oneOf(&w.policyDraw, slices.Sorted(maps.Keys(w.policies))...)
		delete(w.policies, key)
		w.ctl("policy", "delete", key)
	}
}

// setAdmin draws a policy of an administrator, of any of the kinds.
func (w *policyWorld) setAdmin() {
	n := w.IntN(4)
	p := w.baseline()
	if n < 3 {
		p = w.policyDraw.admin(n)
	}
	name := p["metadata"].(object)["name"].(string)
	w.deleteAdmin(name)
	form := p
	if w.IntN(2) == 0 {
		form = asCluster(p)
	}
	w.admin[name], w.written[name] = p, form["kind"].(string)
	w.apply(form)
}

func (w *policyWorld) deleteAdmin(name string) {
	if kind := w.written[name]; kind != "" {
		delete(w.admin, name)
		delete(w.written, name)
		w.ctl("policy", "delete", kind, name)
	}
}

func (w *policyWorld) labelSpace() {
	name := oneOf(&w.policyDraw, drawnSpaces...)
	next := w.labels()
	w.relabel([]string{"namespace", name}, w.spaces[name], next)
	w.spaces[name] = next
}

func (w *policyWorld) labelPod() {
	p := oneOf(&w.policyDraw, w.pods...)
	next := w.labels()
	w.relabel([]string{"pod", p.key()}, p.labels, next)
	p.labels = next
}

func (w *policyWorld) relabel(what []string, now, next map[string]string) {
	args := append([]string{"label"}, what...)
	for _, key := range slices.Sorted(maps.Keys(next)) {
		args = append(args, key+"="+next[key])
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, stays := next[key]; !stays {
			args = append(args, key+"-")
		}
	}
	if len(args) > 3 {
		w.ctl(args...)
	}
}

// replacePod ends a pod, and starts another one, of any namespace, in its place.
func (w *policyWorld) replacePod() {
	n := w.IntN(len(w.pods))
	w.run("lab", "pod", "delete", "--name", w.name, w.pods[n].key())
	w.addPod(n)
}

func (w *policyWorld) addPod(n int) {
	p := &randomPod{namespace: oneOf(&w.policyDraw, drawnSpaces...), name: fmt.Sprint("p", n), node: oneOf(&w.policyDraw, "node1", "node2"), labels: w.labels()}
	args := []string{"lab", "pod", "add", "--name", w.name, p.key(), "--node", p.node}
	for _, key := range slices.Sorted(maps.Keys(p.labels)) {
		args = append(args, "--label", key+"="+p.labels[key])
	}
	for _, name := range portNames {
		for _, protocol := range w.protocols {
			if w.IntN(3) == 0 {
				number := oneOf(&w.policyDraw, 8080, 8081)
				args = append(args, "--port", fmt.Sprintf("%s=%d/%s", name, number, protocol))
				p.ports = append(p.ports, object{"name": name, "containerPort": number, "protocol": protocol})
			}
		}
	}
	w.run(args...)
	w.lab = nil
	p.at = w.reside(inPod(p.key()), p.key(), w.podIP(p.key()))
	w.pods[n] = p
}

// objects are the cluster as the oracle is told of it.
func (w *policyWorld) objects() []object {
	var all []object
	for _, name := range drawnSpaces {
		all = append(all, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name, "labels": w.spaces[name]}})
	}
	for _, p := range w.pods {
		all = append(all, object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"namespace": p.namespace, "name": p.name, "labels": p.labels},
			"spec":   object{"nodeName": "node", "containers": []object{{"name": "c", "ports": p.ports}}},
			"status": object{"phase": "Running", "podIPs": []object{{"ip": p.at.ip}}}})
	}
	for _, policies := range []map[string]object{w.policies, w.admin} {
		for _, key := range slices.Sorted(maps.Keys(policies)) {
			all = append(all, policies[key])
		}
	}
	return all
}

// resident is a probe that stays where it is, answers, and asks.
type resident struct {
	*conversation
	ip, name string
}

// reside starts a probe.
func (c *cluster) reside(at place, name, ip string) *resident {
	c.t.Helper()
	args := []string{probeBinary, "resident", name}
	for _, p := range drawnPorts {
		args = append(args, fmt.Sprint(p))
	}
	r := &resident{c.converse(at, args...), ip, name}
	if line := r.hear(c.t); line != "ready" {
		c.t.Fatalf("%s: the probe said %q", at, line)
	}
	return r
}

// ask asks all at once; the answers are names, "" of nobody.
func (r *resident) ask(quiet string, pairs []string) ([]string, error) {
	if _, err := fmt.Fprintln(r.in, quiet, strings.Join(pairs, " ")); err != nil {
		return nil, fmt.Errorf("%s: %w", r.at, err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.at, err)
	}
	var names []string
	if err := json.Unmarshal(line, &names); err != nil || len(names) != len(pairs)/2 {
		return nil, fmt.Errorf("%s answered %q to %d questions: %w", r.at, line, len(pairs)/2, err)
	}
	return names, nil
}

// conversation is a process at a place that answers lines with lines.
type conversation struct {
	at  place
	in  io.Writer
	out *bufio.Reader
}

// converse starts a process, which ends with its standard input, at the test's end.
func (c *cluster) converse(at place, args ...string) *conversation {
	c.t.Helper()
	cmd := c.command(at, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &conversation{at, in, bufio.NewReader(out)}
}

func (v *conversation) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(v.in, line); err != nil {
		t.Fatalf("%s: %v", v.at, err)
	}
}

func (v *conversation) hear(t *testing.T) string {
	t.Helper()
	line, err := v.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", v.at, err)
	}
	return strings.TrimSpace(line)
}

// judge is the oracle, in a process of its own.
type judge struct {
	in  *json.Encoder
	out *json.Decoder
}

// oracleBinary builds test/policyoracle/judge once, unless somebody has: a virtual
// machine has no compiler.
var oracleBinary = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("DAMASK_ORACLE"); built != "" {
		return built, nil
	}
	binary := filepath.Join(filepath.Dir(probeBinary), "judge")
	build := exec.Command("go", "build", "-o", binary, "./judge")
	build.Dir = "../policyoracle"
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the oracle: %w\n%s", err, out)
	}
	return binary, nil
})

func startJudge(t *testing.T) *judge {
	t.Helper()
	binary, err := oracleBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the oracle ended with %v", err)
		}
	})
	return &judge{json.NewEncoder(in), json.NewDecoder(out)}
}

// allows answers for each question whether the connection may be.
func (j *judge) allows(t *testing.T, objects, questions []object) []bool {
	t.Helper()
	var answer struct {
		Allowed []bool
		Error   string
	}
	if err := j.in.Encode(object{"objects": objects, "questions": questions}); err != nil {
		t.Fatal(err)
	}
	if err := j.out.Decode(&answer); err != nil || answer.Error != "" || len(answer.Allowed) != len(questions) {
		t.Fatalf("the oracle has %d answers to %d questions: %s (%v)", len(answer.Allowed), len(questions), answer.Error, err)
	}
	return answer.Allowed
}
