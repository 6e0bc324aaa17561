async def test_smoke(owner, staff, admin):
    await owner.execute("insert into items(sku,name,unit) values ('A','a','pcs')")
    await owner.execute(
        "insert into locations(code,name,location_type) values ('M','m','WAREHOUSE'),('N','n','WAREHOUSE')"
    )
    p = "/api/v1/inventory/stock"
    r = await staff.post(p + "/in", json={"sku": "A", "location": "M", "quantity": "10", "unit_cost": 2.5})
    print(r.status_code, r.text, r.headers)
    r = await staff.post(p + "/out", json={"sku": "A", "location": "M", "quantity": 3})
    print(r.status_code, r.text)
    r = await staff.post(p + "/out", json={"sku": "A", "location": "M", "quantity": 30})
    print(r.status_code, r.text)
    r = await staff.post(p + "/transfer", json={"sku": "A", "from_location": "M", "to_location": "N", "quantity": 3})
    print(r.status_code, r.text)
    r = await staff.get(r.headers["location"])
    print(r.status_code, r.text, r.headers)
    r = await admin.post(p + "/transactions/" + r.json()["transaction_id"] + "/reverse", json={"reason": "x"})
    print(r.status_code, r.text)
    print(await owner.fetch("select * from audit_log"))
    assert 0
