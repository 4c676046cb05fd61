package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/identity"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// TestAdoptCheckFailsWhenSomethingWouldBeLost needs no cluster: objects are files.
func TestAdoptCheckFailsWhenSomethingWouldBeLost(t *testing.T) {
	const plan = "{kind: ClusterNetwork, metadata: {name: default}, serviceNetwork: 172.30.0.0/16, pluginName: redhat/openshift-ovs-multitenant, clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]}\n"
	for name, c := range map[string]struct {
		text string
		code int
	}{
		"kept":     {plan, 0},
		"lost":     {plan + "---\n{kind: NetNamespace, metadata: {name: n}, netname: n, netid: 5}\n", 1},
		"no plan":  {"kind: List\nitems: []\n", 1},
		"no yaml":  {"kind: [", 1},
		"no kinds": {"a: b", 1},
	} {
		file := filepath.Join(t.TempDir(), "cluster.yaml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range formats() {
			if code := execute(nil, []string{"adopt", "check", "-f", file, "-o", format}); code != c.code {
				t.Errorf("%s, as %s: exit code %d, want %d", name, format, code, c.code)
			}
		}
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	if code := execute(nil, []string{"adopt", "check"}); code != 1 {
		t.Error("a check of nothing succeeds")
	}
	if code := execute(nil, []string{"adopt", "check", "-f", filepath.Join(t.TempDir(), "nothing")}); code != 1 {
		t.Error("a check of a file that is not there succeeds")
	}
}

// awayAt is an ipam that answers but for one question.
type awayAt struct {
	ipamv1.HostSubnetServiceClient // nil: nothing else is asked
	subnet                         *ipamv1.HostSubnet
	asked, away                    int
}

func (a *awayAt) GetHostSubnet(context.Context, *ipamv1.GetHostSubnetRequest, ...grpc.CallOption) (*ipamv1.GetHostSubnetResponse, error) {
	if a.asked++; a.asked == a.away {
		return nil, status.Error(codes.Unavailable, "it is being replaced")
	}
	return &ipamv1.GetHostSubnetResponse{HostSubnet: a.subnet}, nil
}

// TestAServiceThatIsAwayIsWaitedFor: a takeover takes minutes, and services are replaced
// meanwhile. Who asks for the first time gets to know at once that nobody answers.
func TestAServiceThatIsAwayIsWaitedFor(t *testing.T) {
	l := newLive(t)
	subnet := &ipamv1.HostSubnet{Name: "n1", HostIps: []string{"192.0.2.1"}, Subnets: []string{"10.128.0.0/23"}}
	times := 0
	l.startAgent(&agent{subnet: subnet, state: func() (string, error) {
		if times++; times == 1 {
			return "the agent of OpenShift SDN is at work on this node", nil
		}
		return "", nil
	}})
	source, err := identity.NewSource(l.cluster.TLS, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := &session{cluster: l.cluster, source: source, subnets: &awayAt{subnet: subnet, away: 2}}
	if err := s.awaitTakeover(soon(t), &out, "n1"); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	const want = "node n1 waits: the agent of OpenShift SDN is at work on this node\n" +
		"node n1 waits: the service cannot be reached: it is being replaced\n" +
		"node n1 is Damask's, with 2 pods and 120 flows\n"
	if out.String() != want {
		t.Errorf("it says\n%swant\n%s", &out, want)
	}
	s.subnets = &awayAt{subnet: subnet, away: 1}
	if err := s.awaitTakeover(soon(t), &out, "n1"); err == nil || !strings.Contains(err.Error(), "being replaced") {
		t.Errorf("nobody answers from the start: %v", err)
	}
}
