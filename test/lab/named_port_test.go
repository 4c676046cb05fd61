package lab

import "testing"

// namedTopology has two pods that mean different numbers by one name, and one that
// does not know the name.
const namedTopology = `
nodes: [{name: node1, zone: west}, {name: node2}]
namespaces: [{name: red}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: web1, node: node1, labels: {app: web}, ports: [{name: http, containerPort: 8080}]}
- {namespace: red, name: web2, node: node2, labels: {app: web}, ports: [{name: http, containerPort: 7070}, {name: http, containerPort: 7070, protocol: UDP}]}
- {namespace: red, name: web3, node: node2, labels: {app: web}}
services:
- {namespace: red, name: web, clusterIP: 172.30.0.10, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
- {namespace: red, name: udp, clusterIP: 172.30.0.11, selector: {app: web}, ports: [{port: 80, targetPort: http, protocol: UDP}]}
`

func TestATargetPortByNameIsWhatEachPodCallsSo(t *testing.T) {
	c := up(t, namedTopology)
	c.serveAll("8080", "red/web1", "red/web3")
	c.serveAll("7070", "red/web2")
	c.settled(t, "red/web", 2)
	c.settled(t, "red/udp", 1)
	client := "red/client"
	c.wantAnswers(t, inPod(client), "tcp", "172.30.0.10:80", "web1 "+c.podIP(client), "web2 "+c.podIP(client))
	c.wantAnswers(t, inPod(client), "udp", "172.30.0.11:80", "web2 "+c.podIP(client))
}
