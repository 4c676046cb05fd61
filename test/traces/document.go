package traces

import (
	"fmt"
	"net/netip"
	"os"

	"go.yaml.in/yaml/v3"
)

// Walk is one packet walk as it was observed. Fields that the document leaves out
// are zero.
type Walk struct {
	Name           string
	Release        string
	From           string
	Note           string
	ClusterNetwork netip.Prefix `yaml:"cluster_network"`
	ServiceNetwork netip.Prefix `yaml:"service_network"`
	Nodes          map[string]Node
	On             string // The node that answered.
	Pods           map[string]Pod
	Services       map[string]Service // By "namespace/name".
	Egress         *Egress
	Ask            string // The question to ofproto/trace; empty: only single flows were seen.
	Steps          []Step
	Ends           string
}

// Node is a node of the observed cluster.
type Node struct {
	IP      netip.Addr
	Subnet  netip.Prefix
	Gateway netip.Addr
}

// Pod is a pod of the node that answered.
type Pod struct {
	IP   netip.Addr
	Port uint32
	VNID uint32
}

// Service is a service of the cluster, at a TCP port.
type Service struct {
	ClusterIP netip.Addr `yaml:"cluster_ip"`
	Port      uint16
	Endpoints []netip.AddrPort
}

// Egress is a namespace's egress IP and the node that has it.
type Egress struct {
	Namespace string
	IP        netip.Addr
	Node      string
}

// Step is one flow on the way of a packet.
type Step struct {
	Table    int
	Match    string // As ovs-ofctl writes it; empty: every packet.
	Priority int
	Actions  []string // In order; "drop" alone when there are none.
}

// String is the step as ofproto/trace shows it, on one line.
func (s Step) String() string {
	return fmt.Sprintf("%d. match [%s] priority %d %v", s.Table, s.Match, s.Priority, s.Actions)
}

// Load reads the observed walks. A field that it does not know is an error: what it
// says would go unjudged.
func Load(path string) ([]Walk, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	var document struct {
		Cluster yaml.Node `yaml:"cluster_3_11"` // Merged into the walks that refer to it.
		Traces  []Walk
	}
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return document.Traces, nil
}
