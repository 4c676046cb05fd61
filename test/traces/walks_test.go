package traces_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/test/traces"
)

const observed = "../observed/traces.yaml"

// settings are the isolations under which every walk must hold. 272037 is a VNID of
// an observed cluster; the highest possible one shows whether all 24 bits travel.
func settings() map[string]traces.Setting {
	return map[string]traces.Setting{
		"subnet":                     {},
		"multitenant, VNID 0":        {Multitenant: true},
		"multitenant, VNID 272037":   {Multitenant: true, VNID: 272037},
		"multitenant, VNID 16777215": {Multitenant: true, VNID: 1<<24 - 1},
	}
}

func load(t *testing.T) []traces.Walk {
	t.Helper()
	walks, err := traces.Load(observed)
	if err != nil {
		t.Fatal(err)
	}
	judged, err := traces.Judged(walks)
	if err != nil {
		t.Fatal(err)
	}
	return judged
}

func TestObservedWalksHoldOnAProgrammedBridge(t *testing.T) {
	for name, setting := range settings() {
		for _, walk := range load(t) {
			t.Run(name+"/"+walk.Name, func(t *testing.T) {
				if why := walk.NotAsked(setting); why != "" {
					t.Skip(why)
				}
				site, err := walk.Site(setting)
				if err != nil {
					t.Fatal(err)
				}
				ask(t, walk, setting, tracer(program(t, site, setting, ovstest.Dummy)))
			})
		}
	}
}

// TestObservedWalksHoldOnTheUserspaceDatapath asks where tunnels are the switch's own
// and a second bridge has the underlay, as on a node of a lab.
func TestObservedWalksHoldOnTheUserspaceDatapath(t *testing.T) {
	setting := traces.Setting{Multitenant: true, VNID: 272037, Userspace: true}
	for _, walk := range load(t) {
		t.Run(walk.Name, func(t *testing.T) {
			site, err := walk.Site(setting)
			if err != nil {
				t.Fatal(err)
			}
			sw := program(t, site, setting, ovstest.Netdev)
			underlay(t, sw, site)
			ask(t, walk, setting, tracer(sw))
		})
	}
}

// underlay gives the switch the bridge by which tunnels leave, and the neighbours there.
func underlay(t *testing.T, sw *ovstest.Switch, site traces.Site) {
	t.Helper()
	sw.Vsctl(t, "add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev", "fail_mode=standalone")
	ns := sw.Namespace()
	ns.Run(t, "ip", "address", "add", netip.PrefixFrom(site.Node.IP, 24).String(), "dev", "br-phy")
	ns.Run(t, "ip", "link", "set", "br-phy", "up")
	for _, remote := range site.Remotes {
		sw.Appctl(t, "tnl/neigh/set", "br-phy", remote.IP.String(), "0a:00:00:00:00:01")
	}
}

// ask puts all questions of the walk.
func ask(t *testing.T, walk traces.Walk, setting traces.Setting, trace traces.Tracer) {
	t.Helper()
	questions, err := walk.Questions(setting)
	if err != nil {
		t.Fatal(err)
	}
	for _, question := range questions {
		differences, err := question.Ask(t.Context(), trace)
		if err != nil {
			t.Fatal(err)
		}
		for _, difference := range differences {
			t.Errorf("%s\n%s", strings.Join(question.Args, " "), difference)
		}
	}
}

func tracer(sw *ovstest.Switch) traces.Tracer {
	return func(ctx context.Context, args ...string) (string, error) {
		cmd := sw.Command("ovs-appctl", append([]string{"--target=" + filepath.Join(sw.Dir(), "ovs-vswitchd.ctl")}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return string(out), nil
	}
}

// program makes a bridge as the site says.
func program(t *testing.T, site traces.Site, setting traces.Setting, datapath ovstest.Datapath) *ovstest.Switch {
	t.Helper()
	sw := ovstest.Start(t, ovstest.Options{Datapath: datapath})
	sw.AddBridge(t, "br0")
	ports := []string{"add-port", "br0", "vxlan0", "--", "set", "Interface", "vxlan0", "ofport_request=1", "type=vxlan",
		"options:key=flow", "options:remote_ip=flow",
		"--", "add-port", "br0", "tun0", "--", "set", "Interface", "tun0", "type=internal", "ofport_request=2"}
	kind := "dummy"
	if datapath == ovstest.Netdev {
		kind = "internal" // Needs no device of a pod; for a trace it makes no difference.
	}
	for _, pod := range site.Pods {
		name := fmt.Sprintf("veth%08x", pod.Port)
		ports = append(ports, "--", "add-port", "br0", name, "--", "set", "Interface", name, "type="+kind,
			fmt.Sprintf("ofport_request=%d", pod.Port))
	}
	sw.Vsctl(t, ports...)
	var text strings.Builder
	for _, fragment := range compile(site, setting, datapath == ovstest.Netdev) {
		for _, flow := range fragment.Flows {
			text.WriteString(flow.String() + "\n")
		}
	}
	file := filepath.Join(t.TempDir(), "flows.txt")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	sw.Ofctl(t, "add-flows", "br0", file)
	return sw
}

// compile is what the node agent does with the same facts.
func compile(site traces.Site, setting traces.Setting, userspace bool) []pipeline.Fragment {
	node := pipeline.Node{
		ClusterNetworks: []netip.Prefix{site.ClusterNetwork},
		ServiceNetworks: []netip.Prefix{site.ServiceNetwork},
		Subnet:          site.Node.Subnet,
		Gateway:         site.Node.Gateway,
		HostIP:          site.Node.IP,
		TunnelPort:      4789,
		Userspace:       userspace,
	}
	if setting.Multitenant {
		node.Mode = pipeline.Multitenant
	}
	all := []pipeline.Fragment{pipeline.Base(node), pipeline.TenantFragment(node, setting.VNID)}
	for name, remote := range site.Remotes {
		all = append(all, pipeline.RemoteFragment(node, pipeline.Remote{
			Name: name, HostIP: remote.IP, Subnets: []netip.Prefix{remote.Subnet},
		}))
	}
	for name, pod := range site.Pods {
		all = append(all, pipeline.PodFragment(node, pipeline.Pod{
			Namespace: "observed", Name: name, IP: pod.IP, Port: pod.Port, VNID: pod.VNID,
		}))
	}
	for name, service := range site.Services {
		all = append(all, pipeline.ServiceFragment(node, pipeline.Service{
			Namespace: "observed", Name: name, VNID: setting.VNID, ClusterIPs: []netip.Addr{service.ClusterIP},
			Ports: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: service.Port}},
		}))
	}
	if site.Egress != nil {
		all = append(all, egress(node, site, setting))
	}
	return all
}

// egress is what the node agent does of one egress IP of the setting's VNID.
func egress(node pipeline.Node, site traces.Site, setting traces.Setting) pipeline.Fragment {
	e := pipeline.Egress{VNID: setting.VNID}
	if remote, there := site.Remotes[site.Egress.Node]; there {
		e.Whole = &pipeline.EgressWay{{Node: remote.IP}}
	} else {
		e.Whole = &pipeline.EgressWay{{}}
		e.Hosted = []pipeline.EgressHosted{{}}
	}
	return pipeline.EgressFragment(node, e)
}
