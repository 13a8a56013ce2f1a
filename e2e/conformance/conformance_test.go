// Package conformance runs the Gateway API's own suite against the mesh of KUBECONFIG.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
