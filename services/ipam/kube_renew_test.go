package ipam_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// again deletes a Node, and makes another one of its name on a machine.
func (k *kubernetes) again(name, ip, machine string) {
	k.Helper()
	k.Kubectl(k.T, "delete", "node", name)
	k.node(name, ip)
	k.Kubectl(k.T, "patch", "node", name, "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status": {"nodeInfo": {
		"machineID": %q, "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "",
		"kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": ""}}}`, machine))
}

// isOf waits until a HostSubnet says that it is of the Node that is there now.
func (k *kubernetes) isOf(node string) {
	k.Helper()
	uid := k.Kubectl(k.T, "get", "node", node, "-o", "jsonpath={.metadata.uid}")
	k.wait("hostsubnet/"+node, `jsonpath={.metadata.annotations.pod\.network\.openshift\.io/node-uid}=`+uid)
}

// TestOnKubernetesANodeOfAnOldNameInheritsNothing deletes Nodes and makes them again under the
// same names while no replica runs.
func TestOnKubernetesANodeOfAnOldNameInheritsNothing(t *testing.T) {
	k := newKubernetes(t)
	k.Apply(t, network)
	stop := start(t, k.cfg)
	for i, node := range []string{"other", "same", "never"} {
		k.node(node, fmt.Sprintf("192.0.2.%d", 10+i))
		k.subnet(node)
	}
	k.register("other", "192.0.2.10")
	same := k.register("same", "192.0.2.11")
	before := k.Kubectl(t, "get", "hostsubnet", "same", "-o", "jsonpath={.metadata.uid}")
	for _, node := range []string{"other", "same", "never"} {
		k.Kubectl(t, "patch", "hostsubnet", node, "--type=merge", "-p", `{"egressCIDRs": ["198.51.100.0/24"]}`)
	}
	answer, err := k.agent("same").GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "same"})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	k.again("other", "192.0.2.10", "another-machine")
	k.again("never", "192.0.2.12", "a-machine")
	k.again("same", "192.0.2.11", answer.GetHostSubnet().GetNodeUid())

	start(t, k.cfg)
	for _, node := range []string{"other", "never"} {
		k.isOf(node)
		k.subnet(node)
		if got := k.Kubectl(t, "get", "hostsubnet", node, "-o", "jsonpath={.egressCIDRs}"); got != "" {
			t.Errorf("%s may host %s, as the one before", node, got)
		}
		stored, err := k.agent(node).GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: node})
		if status.Code(err) != codes.OK || stored.GetHostSubnet().GetNodeUid() != "" {
			t.Errorf("the store has of %s: %v, %v", node, stored, err)
		}
	}
	// The machine that was registered anew goes on with what it has.
	k.isOf("same")
	if uid := k.Kubectl(t, "get", "hostsubnet", "same", "-o", "jsonpath={.metadata.uid}"); uid != before {
		t.Error("the HostSubnet of the same machine is another one")
	}
	if got := k.register("same", "192.0.2.11"); got != same {
		t.Errorf("the same machine has %s, before %s", got, same)
	}
}
