package healthport

import (
	"encoding/json"
)

// body is what kube-proxy says, in its spelling.
type body struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// encode writes the body, tabs as kube-proxy does.
func encode(health Health, healthy bool) ([]byte, error) {
	var b body
	b.Service.Namespace, b.Service.Name = health.Namespace, health.Name
	b.LocalEndpoints, b.ServiceProxyHealthy = health.Local, healthy
	return json.MarshalIndent(b, "", "\t")
}
