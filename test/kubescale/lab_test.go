package kubescale

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/client-go/dynamic"

	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/proctest"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

const (
	// fourNodes is how many nodes a lab has.
	fourNodes = 4
	damask    = "../../bin/damask"
	rights    = "../../deploy/kustomize/base/"
)

// Names by which those whom we measure ask for the API server: all of them come from the
// lab's relay, and so they are told apart.
const (
	askedByServices = "kubernetes"
	askedByAgents   = "kubernetes.default"
)

// schemas have the API server count the requests of the control services and of the agents, but
// watches: those are none for each object.
const schemas = `
{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: measured-services}, spec: {
  priorityLevelConfiguration: {name: workload-high}, matchingPrecedence: 10, rules: [{resourceRules: [
    {verbs: [get, list, create, update, patch, delete, deletecollection], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}], subjects: [
    {kind: ServiceAccount, serviceAccount: {namespace: damask-system, name: damask-ipam}},
    {kind: ServiceAccount, serviceAccount: {namespace: damask-system, name: damask-tenancy}},
    {kind: ServiceAccount, serviceAccount: {namespace: damask-system, name: damask-servicelb}},
    {kind: ServiceAccount, serviceAccount: {namespace: damask-system, name: damask-egress}}]}]}}
---
{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: measured-agents}, spec: {
  priorityLevelConfiguration: {name: workload-high}, matchingPrecedence: 11, rules: [{resourceRules: [
    {verbs: [get, list, create, update, patch, delete, deletecollection], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}], subjects: [
    {kind: ServiceAccount, serviceAccount: {namespace: damask-system, name: damask-nodeagent}}]}]}}
`

// lab is a cluster of some nodes with all that Damask is, which follows an API server.
type lab struct {
	apiserver
	name  string
	gate  *kubetest.Gate
	admin dynamic.Interface
	nodes []*node
}

// node is one of its machines.
type node struct {
	name string
	pid  int // of its first process
}

func newLab(b *testing.B) *lab {
	b.Helper()
	proctest.Need(b, "nsenter", "ip", referencePlugins+"/bridge", referencePlugins+"/host-local")
	l := &lab{apiserver: apiserver{b, kubetest.Start(b)}, name: fmt.Sprintf("bench%d", os.Getpid()%10000)}
	l.gate = l.cluster.NewGate(b)
	l.admin = l.through(l.cluster.NewGate(b))
	l.cluster.InstallCRDs(b, "../../deploy/crds")
	l.cluster.Apply(b, schemas)
	l.cluster.Apply(b, `{apiVersion: network.openshift.io/v1, kind: ClusterNetwork, metadata: {name: default}, network: 10.128.0.0/14, hostsubnetlength: 9,
		serviceNetwork: 172.30.0.0/16, clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}], pluginName: redhat/openshift-ovs-networkpolicy}`)
	file := filepath.Join(b.TempDir(), "topology.yaml")
	if err := os.WriteFile(file, []byte(l.topology()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.down() })
	l.damask("lab", "up", "--name", l.name, "-f", file, "--datapath", "netdev")
	state := &labv1.Lab{}
	if err := protojson.Unmarshal([]byte(l.damask("lab", "status", "--name", l.name, "-o", "json")), state); err != nil {
		b.Fatal(err)
	}
	for _, n := range state.GetNodes() {
		l.nodes = append(l.nodes, &node{n.GetName(), int(n.GetPid())})
	}
	return l
}

// topology has the services and agents ask as they do in a cluster, each with its rights.
func (l *lab) topology() string {
	l.Helper()
	text := "replicas: {nats: 1, ipam: 1, tenancy: 1, servicelb: 1, egress: 1}\nkubernetes:\n  services:\n"
	for _, name := range names {
		user := l.cluster.AsServiceAccount(l.B, rights+"rbac/"+name+".yaml")
		text += fmt.Sprintf("    %s: %s\n", name, l.gate.KubeconfigAs(l.B, user, askedByServices))
	}
	l.cluster.ApplyFiles(l.B, rights+"rbac/nodeagent.yaml", rights+"nodeagent-own-node.yaml")
	text += "nodes:\n"
	for i := range fourNodes {
		name, ip := fmt.Sprintf("node%d", i+1), fmt.Sprintf("192.168.108.%d", 11+i)
		if err := l.put(l.admin, nodes, object("v1", "Node", "", name, map[string]any{"status": map[string]any{
			"addresses": []any{map[string]any{"type": "InternalIP", "address": ip}},
		}})); err != nil {
			l.Fatal(err)
		}
		agent := l.cluster.WithToken(l.B, "damask-system", "damask-nodeagent", name)
		text += fmt.Sprintf("- {name: %s, ip: %s, kubeconfig: %s}\n", name, ip, l.gate.KubeconfigAs(l.B, agent, askedByAgents))
	}
	return text
}

// down takes the lab down, after the end of its logs if something failed.
func (l *lab) down() {
	const most = 4000
	for _, log := range []string{"ipam-1", "tenancy-1", "servicelb-1", "node1.nodeagent", "supervisor"} {
		if text, err := os.ReadFile(filepath.Join("/var/lib/damask-lab", l.name, "logs", log+".log")); l.Failed() {
			l.Logf("end of the log of %s (%v):\n%s", log, err, text[max(0, len(text)-most):])
		}
	}
	if out, err := exec.Command(damask, "lab", "down", "--name", l.name).CombinedOutput(); err != nil {
		l.Errorf("lab down: %v\n%s", err, out)
	}
}

// damask runs the operator's program, which must succeed.
func (l *lab) damask(args ...string) string {
	l.Helper()
	var stderr strings.Builder
	cmd := exec.Command(damask, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.Fatalf("damask %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// spent is what the API server was asked and what it sent, until now.
type spent struct {
	serviceCalls, agentCalls             float64
	serviceBytes, agentBytes, watchBytes int64
}

// spent asks; watched is what bare watches are told through.
func (l *lab) spent(watched *kubetest.Gate) spent {
	l.Helper()
	s := spent{serviceBytes: l.gate.ReceivedAs(askedByServices), agentBytes: l.gate.ReceivedAs(askedByAgents), watchBytes: watched.Received()}
	for line := range strings.Lines(l.cluster.Kubectl(l.B, "get", "--raw", "/metrics")) {
		labels, number, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(labels, "apiserver_flowcontrol_dispatched_requests_total{") {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			l.Fatal(err)
		}
		switch label(labels, "flow_schema") {
		case "measured-services":
			s.serviceCalls += n
		case "measured-agents":
			s.agentCalls += n
		}
	}
	return s
}

// report reports what has been spent for each of n objects since before.
func (l *lab) report(what string, before, after spent, n int) {
	each := func(unit string, spent float64) { l.ReportMetric(spent/float64(n), what+unit) }
	l.ReportMetric(1, what+"-own-call")
	each("-service-calls", after.serviceCalls-before.serviceCalls)
	each("-agent-calls", after.agentCalls-before.agentCalls)
	each("-service-bytes", float64(after.serviceBytes-before.serviceBytes))
	each("-agent-bytes", float64(after.agentBytes-before.agentBytes))
	each("-watch-bytes", float64(after.watchBytes-before.watchBytes))
}
